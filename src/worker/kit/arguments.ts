/**
 * Checks of what the app passes to the kit. An error names the call, what was expected, and what it got.
 */

/** A function of the app. @throws TypeError that begins with `what` */
export function checkFunction(what: string, given: unknown): asserts given is (...args: never) => unknown {
  if (typeof given !== 'function') throw new TypeError(`${what} must be a function, got ${shown(given)}`);
}

/** The last argument of a call. @throws TypeError that begins with `call` */
export function checkOptions(call: string, given: unknown): asserts given is object {
  if (typeof given === 'object' && given !== null) return;
  throw new TypeError(`${call}: the options must be an object, got ${typeName(given)}`);
}

/** Text in quotes, cut to 80 characters; the type of anything else. */
export const shown = (value: unknown): string =>
  typeof value === 'string' ? JSON.stringify(value.slice(0, 80)) : typeName(value);

/** The type of a value; `null` by its own name. */
export const typeName = (value: unknown): string => (value === null ? 'null' : typeof value);
