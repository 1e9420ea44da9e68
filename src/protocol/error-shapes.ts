/**
 * The shape of an error that a worker reports, and how much of it is kept.
 */
import type { ErrorSummary } from './messages.ts';
import { boolean, MalformedError, number, object, optional, type Parser, string, text } from './shapes.ts';

const MAX_TEXT = 4096;
const MAX_STACK = 16_384;
const MAX_PATH = 2048;

/** A plain name: it is shown where text of the app is not. */
const errorName: Parser<string> = (value, at) => {
  const name = string(64)(value, at);
  if (!/^[\w$.-]+$/.test(name)) throw new MalformedError(at, 'a name', name);
  return name;
};

/** What an error is and where it was made, without its text. */
export const place = {
  class: errorName,
  code: optional(errorName),
  file: optional(text(MAX_PATH)),
  line: optional(number(0)),
};

export const errorSummary = object<ErrorSummary>({ own: optional(text(MAX_PATH)), ...place });

export const errorReport = {
  message: text(MAX_TEXT),
  stack: text(MAX_STACK),
  summary: errorSummary,
  isPermanent: boolean,
};
