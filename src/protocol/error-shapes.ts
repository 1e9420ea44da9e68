/**
 * The shape of an error that a worker reports, and how much of it is kept.
 */
import { MAX_ERRORS, type RequestError } from './error-status.ts';
import type { ErrorSummary } from './messages.ts';
import { boolean, integer, listOfValid, MalformedError, number, object, optional, type Parser, string, text } from './shapes.ts';
import { route } from './snapshot-shapes.ts';

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

/** `HTTP 500`, or a name. */
const errorClass: Parser<string> = (value, at) =>
  typeof value === 'string' && /^HTTP \d{3}$/.test(value) ? value : errorName(value, at);

/** One that is malformed takes no others with it. */
export const requestErrors = listOfValid(
  object<RequestError>({
    ...place,
    class: errorClass,
    at: number(0),
    method: text(32),
    route,
    status: optional(integer(100, 999)),
    count: integer(1, Number.MAX_SAFE_INTEGER),
    message: optional(text(MAX_TEXT)),
    frame: optional(text(MAX_PATH)),
    path: optional(text(MAX_PATH)),
    trace_id: optional(string(32)),
  }),
  MAX_ERRORS,
);
