/**
 * Small parsers that turn `unknown` into a typed value. Each copies known fields and drops the rest, so that the result has
 * a known size.
 */

/** @throws MalformedError; `at` is the path to `value`, for its message */
export type Parser<T> = (value: unknown, at: string) => T;

/** A value does not have the expected shape. The message has the place, the expectation and the value. */
export class MalformedError extends Error {
  override readonly name = 'MalformedError';

  constructor(at: string, expected: string, value: unknown) {
    super(`${at} must be ${expected}, got ${describe(value)}`);
  }
}

/** A finite number of at least `min`. */
export const number =
  (min = Number.NEGATIVE_INFINITY): Parser<number> =>
  (value, at) => {
    if (typeof value === 'number' && Number.isFinite(value) && value >= min) return value;
    throw new MalformedError(at, min === Number.NEGATIVE_INFINITY ? 'a finite number' : `a number of at least ${min}`, value);
  };

export const integer =
  (min: number, max: number): Parser<number> =>
  (value, at) => {
    if (Number.isSafeInteger(value) && Number(value) >= min && Number(value) <= max) return Number(value);
    throw new MalformedError(at, `a whole number from ${min} to ${max}`, value);
  };

/** A string whose content matters: one longer than `maxLength` is refused. */
export const string =
  (maxLength: number): Parser<string> =>
  (value, at) => {
    if (typeof value === 'string' && value.length <= maxLength) return value;
    throw new MalformedError(at, `a string of at most ${maxLength} characters`, value);
  };

/** A string for people: it is cut to `maxLength`. */
export const text =
  (maxLength: number): Parser<string> =>
  (value, at) => {
    if (typeof value !== 'string') throw new MalformedError(at, 'a string', value);
    // A slice alone would keep the whole string in memory.
    return value.length <= maxLength ? value : `${Buffer.from(value.slice(0, maxLength)).toString()}…`;
  };

/** Text of another system or of the app, for a terminal, a log line or a page: bounded, without control or bidirectional characters. */
export function printable(text: string, maxLength: number): string {
  const clean = text
    .slice(0, maxLength)
    .toWellFormed()
    .replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '?');
  return text.length > maxLength ? `${clean}…` : clean;
}

export const boolean: Parser<boolean> = (value, at) => {
  if (typeof value === 'boolean') return value;
  throw new MalformedError(at, 'true or false', value);
};

export const oneOf =
  <T extends string>(...values: readonly T[]): Parser<T> =>
  (value, at) => {
    const found = values.find(each => each === value);
    if (found === undefined) throw new MalformedError(at, `one of ${values.join(', ')}`, value);
    return found;
  };

export const optional =
  <T>(parse: Parser<T>): Parser<T | undefined> =>
  (value, at) =>
    value === undefined ? undefined : parse(value, at);

/** At most `max` elements; one more is refused. */
export const list =
  <T>(parse: Parser<T>, max: number): Parser<T[]> =>
  (value, at) => {
    if (!Array.isArray(value) || value.length > max) throw new MalformedError(at, `an array of at most ${max} elements`, value);
    return value.map((each, index) => parse(each, `${at}[${index}]`));
  };

/** As `list`, without the elements that are malformed. */
export const listOfValid =
  <T>(parse: Parser<T>, max: number): Parser<T[]> =>
  (value, at) =>
    list(each => each, max)(value, at).flatMap((each, index) => {
      try {
        return [parse(each, `${at}[${index}]`)];
      } catch (error) {
        if (error instanceof MalformedError) return [];
        throw error;
      }
    });

/** The fields of `T`, each by its parser; other fields are dropped. */
export const object =
  <T>(fields: { [K in keyof T]-?: Parser<T[K]> }): Parser<T> =>
  (value, at) => {
    const source = record(value, at);
    const parsed: Partial<T> = {};
    for (const name in fields) {
      const field = fields[name](source[name], `${at}.${name}`);
      if (field !== undefined) parsed[name] = field;
    }
    return parsed as T; // every field is there that `fields` requires
  };

/** An object that is not an array. */
export function record(value: unknown, at: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new MalformedError(at, 'an object', value);
  return value as Record<string, unknown>;
}

function describe(value: unknown): string {
  if (typeof value === 'string') return value.length > 40 ? `a string of ${value.length} characters` : JSON.stringify(value);
  if (Array.isArray(value)) return `an array of ${value.length}`;
  return typeof value === 'object' && value !== null ? 'an object' : String(value);
}
