/**
 * Checks of what the app passes to the kit. An error names the call, what was expected, and what it got.
 */

/** A function of the app. @throws TypeError that begins with `what` */
export function checkFunction(what: string, given: unknown): asserts given is (...args: never) => unknown {
  if (typeof given !== 'function') throw new TypeError(`${what} must be a function, got ${shown(given)}`);
}

/** The last argument of a call: `known` has its options. @throws TypeError that begins with `call` */
export function checkOptions(call: string, given: unknown, known: Readonly<Record<string, true>>): asserts given is object {
  if (typeof given !== 'object' || given === null)
    throw new TypeError(`${call}: the options must be an object, got ${typeName(given)}`);
  const names = Object.keys(known);
  for (const key of Object.keys(given))
    if (!Object.hasOwn(known, key))
      throw new TypeError(
        `${call}: there is no option ${key.slice(0, 80)}; there ${names.length === 1 ? 'is' : 'are'} ${names.join(', ')}`,
      );
}

/** Text in quotes, cut to 80 characters; the type of anything else. */
export const shown = (value: unknown): string =>
  typeof value === 'string' ? JSON.stringify(value.slice(0, 80)) : typeName(value);

/** The type of a value; `null` by its own name. */
export const typeName = (value: unknown): string => (value === null ? 'null' : typeof value);
