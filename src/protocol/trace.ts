/**
 * The ids of a trace, and the header that passes them on (W3C Trace Context).
 */

/** Which trace a request belongs to, as OpenTelemetry names the fields of a log line. */
export interface TraceIds {
  /** 32 hexadecimal digits. */
  trace_id: string;
  /** 16 hexadecimal digits: of the worker's own span; without OpenTelemetry that of the caller, which the request names. */
  span_id: string;
  /** Two hexadecimal digits; `01` where the trace is sampled. */
  trace_flags: string;
}

/** Version, trace, parent and flags. Ids of zeros alone and version ff are not valid. */
const TRACEPARENT = /^(?!ff)([\da-f]{2})-(?!0{32})([\da-f]{32})-(?!0{16})([\da-f]{16})-([\da-f]{2})(-|$)/;

/** The ids in a `traceparent` header; undefined where it is missing or not valid. Versions above 00 may have more fields. */
export function parseTraceparent(header: unknown): TraceIds | undefined {
  const [, version, trace_id, span_id, trace_flags, next] = (typeof header === 'string' && TRACEPARENT.exec(header)) || [];
  if (trace_id === undefined || span_id === undefined || trace_flags === undefined) return undefined;
  return version === '00' && next !== '' ? undefined : { trace_id, span_id, trace_flags };
}
