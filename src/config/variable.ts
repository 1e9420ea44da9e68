/**
 * A row of the table of environment variables (variables.ts), and the two ways to write one.
 */
import type { Parser } from './parse.ts';

export interface Variable<T> {
  name: string;
  /** Parsed like a given value; `undefined` where unset means something of its own. */
  fallback: string | undefined;
  parse: Parser<T>;
  /** One line for the README's table. */
  help: string;
  /** What the README's table shows where the fallback alone would not be clear. */
  shown?: string;
  /** Read where `name` is unset. */
  alias?: string;
  /** May be given as `<name>_FILE`, and its value is never printed. */
  secret?: true;
  /** Fallback outside production. */
  development?: string;
}

type Extra = Pick<Variable<unknown>, 'shown' | 'alias' | 'secret' | 'development'>;
/** One that always has a value. */
export const variable = <T>(name: string, fallback: string, parse: Parser<T>, help: string, extra: Extra = {}): Variable<T> => ({
  name,
  fallback,
  parse,
  help,
  ...extra,
});
/** One whose absence means something of its own. */
export const optional = <T>(name: string, parse: Parser<T>, help: string, extra: Extra = {}): Variable<T | undefined> => ({
  name,
  fallback: undefined,
  parse,
  help,
  ...extra,
});
