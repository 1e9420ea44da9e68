/**
 * What the tables of log events are made of (log-events.ts): levels, fields with their types, and fields that many events have.
 */
import type { ExitReason } from './exit.ts';
import type { LeaderEnd } from './leader.ts';
import type { OpenRequest } from './messages.ts';

export type Level = 'debug' | 'info' | 'warn' | 'error' | 'fatal';

/** `T` is the type of its value, `type` the same in words. */
export interface Field<T, Optional extends boolean = false> {
  meaning: string;
  type: string;
  isOptional: Optional;
  /** Never set. */
  value?: T;
}
export type Fields = Record<string, Field<unknown, boolean>>;

export interface Entry<L extends Level, F extends Fields> {
  /** More than one where it depends on the fields; the first is the usual one. */
  levels: readonly [L, ...L[]];
  meaning: string;
  fields: F;
}

export const field =
  <T>(type: string) =>
  (meaning: string): Field<T> => ({ meaning, type, isOptional: false });
export const optional = <T>({ meaning, type }: Field<T>): Field<T, true> => ({ meaning, type, isOptional: true });
export const count = field<number>('number');
export const text = field<string>('string');
export const error = text('the message of the error');
export const err = field<unknown>('error')('type, message and stack of the error');
export const worker = count('number of the worker');
export const workerPid = count('its process id');
export const reason = field<ExitReason>('string')('why it ends: see [exit reasons](exit-codes.md#exit-reasons)');
export const generation = count('1, and one more with each rolling restart');
export const warning = text('what is wrong, and what to do');
export const stage = field<'app' | 'listen'>('string')('`app` while the app is loaded, `listen` when the port is opened');
export const functionName = text('name of the function; empty if it has none');
export const requests = field<readonly OpenRequest[]>('list')('the oldest: method, path without query, age in ms, bytes sent');
/** Of the request that a line is about. */
export const trace = {
  trace_id: optional(text('id of its trace')),
  span_id: optional(text('id of its span; without OpenTelemetry that of the caller, from `traceparent`')),
  trace_flags: optional(text('`01` where the trace is sampled')),
};
export const leader = { name: text('name in `kit.leader`'), worker, term: count('its token') };
export const why = field<LeaderEnd>('string')(
  '`drain`; `request` of an operator; `failed`: its start function; `expired`: not renewed in time; `taken`: the lock was gone; `exit`: of the process',
);
export const redis = {
  worker: optional(worker),
  connection: optional(field<'primary'>('string')("`primary` for the primary's own connection")),
  message: text('the state in words'),
};

export const at =
  <const L extends Level>(...levels: [L, ...L[]]) =>
  <F extends Fields>(meaning: string, fields: F): Entry<L, F> => ({ levels, meaning, fields });
export const [debug, info, warn, failure, fatal] = [at('debug'), at('info'), at('warn'), at('error'), at('fatal')];
