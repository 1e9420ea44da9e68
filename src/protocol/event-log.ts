/**
 * The types of the log calls, from the table of log-events.ts.
 */
import type { LOG_EVENTS, LogEventName } from './log-events.ts';
import type { Field, Level } from './log-fields.ts';

type FieldsOf<Name extends LogEventName> = (typeof LOG_EVENTS)[Name]['fields'];
type ValueOf<F> = F extends Field<infer T, boolean> ? T : never;
type Line<Name, F> = { event: Name } & { [K in keyof F as F[K] extends Field<unknown> ? K : never]: ValueOf<F[K]> } & {
  [K in keyof F as F[K] extends Field<unknown> ? never : K]?: ValueOf<F[K]> | undefined;
};
type Flat<T> = { [K in keyof T]: T[K] };

/** What a log call has to give. */
export type LogEvent<Name extends LogEventName> = Flat<Line<Name, FieldsOf<Name>>>;

type EventsAt<L extends Level> = {
  [Name in LogEventName]: L extends (typeof LOG_EVENTS)[Name]['levels'][number] ? LogEvent<Name> : never;
}[LogEventName];

/** The kit's view of its logger: an unknown event, field or level does not compile. */
export type EventLog = { readonly [L in Level]: (line: EventsAt<L>) => void };
