/**
 * The shape of a report about a health check, and how much of it is kept. Its text is shown on terminals: no control characters.
 */

import { place } from './error-shapes.ts';
import { CHECK_NAME, type CheckFailure, type HealthReport, type HealthResult } from './health.ts';
import type { ErrorSummary } from './messages.ts';
import {
  boolean,
  integer,
  MalformedError,
  number,
  object,
  oneOf,
  optional,
  type Parser,
  printable,
  record,
  string,
} from './shapes.ts';

const MAX_MESSAGE = 500;

const count = number(0);

const name: Parser<string> = (value, at) => {
  const text = string(64)(value, at);
  if (!CHECK_NAME.test(text)) throw new MalformedError(at, 'the name of a check', text);
  return text;
};

const message: Parser<string> = (value, at) => printable(string(Number.POSITIVE_INFINITY)(value, at), MAX_MESSAGE);

const FAILURES: { [K in CheckFailure['kind']]: Parser<Omit<Extract<CheckFailure, { kind: K }>, 'kind'>> } = {
  'timed-out': object<{ afterMs: number }>({ afterMs: count }),
  threw: object<Omit<Extract<CheckFailure, { kind: 'threw' }>, 'kind'>>({
    message,
    summary: object<Omit<ErrorSummary, 'own'>>(place),
  }),
  returned: object<Omit<Extract<CheckFailure, { kind: 'returned' }>, 'kind'>>({ value: oneOf('false', 'ok: false'), message }),
};

const failure: Parser<CheckFailure> = (value, at) => {
  const kind = oneOf('timed-out', 'threw', 'returned')(record(value, at).kind, `${at}.kind`);
  return { kind, ...FAILURES[kind](value, at) } as CheckFailure; // the table says which fields belong to which kind
};

export const healthReport = {
  name,
  readiness: boolean,
  validMs: number(0),
  result: optional(
    object<HealthResult>({ failures: integer(0, Number.MAX_SAFE_INTEGER), durationMs: count, failure: optional(failure) }),
  ),
} satisfies { [K in keyof Required<HealthReport>]: Parser<HealthReport[K]> };
