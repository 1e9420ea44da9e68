/**
 * The metrics of an app in transit to the primary, in prom-client's JSON. prom-client aggregates them there, and throws on a malformed one.
 */

import { list, MalformedError, number, oneOf, optional, type Parser, record, string, text } from './shapes.ts';
import type { AppMetric } from './snapshot.ts';

/** Per worker: enough for a large application; further metrics are dropped. */
export const MAX_METRICS = 1000;
export const MAX_VALUES = 20_000;
const MAX_LABELS = 32;
const MAX_NAME = 256;
const MAX_TEXT = 2048;

type AppValue = AppMetric['values'][number];

/** NaN and Infinity are null in JSON. */
const isSample = (value: unknown) => typeof value === 'object' && value !== null && 'value' in value && value.value !== null;

const labels: Parser<Record<string, string | number>> = (value, at) => {
  const entries = Object.entries(record(value ?? {}, at));
  if (entries.length > MAX_LABELS) throw new MalformedError(at, `at most ${MAX_LABELS} labels`, value);
  return Object.fromEntries(entries.map(([name, label]) => [labelName(name, at), labelValue(label, `${at}.${name}`)]));
};

const labelName: Parser<string> = (value, at) => {
  const name = string(MAX_NAME)(value, at);
  if (!/^[a-zA-Z_][a-zA-Z0-9_]*$/.test(name)) throw new MalformedError(at, 'valid label names', name);
  return name;
};

/** prom-client accepts any printable value. */
const labelValue: Parser<string | number> = (value, at) =>
  typeof value === 'number' ? value : text(MAX_TEXT)(typeof value === 'boolean' || value === null ? String(value) : value, at);

const metricName: Parser<string> = (value, at) => {
  const name = string(MAX_NAME)(value, at);
  if (!/^[a-zA-Z_:][a-zA-Z0-9_:]*$/.test(name)) throw new MalformedError(at, 'a metric name', name);
  return name;
};

const appValue: Parser<AppValue> = (value, at) => {
  const fields = record(value, at);
  const name = optional(metricName)(fields.metricName, `${at}.metricName`);
  const parsed = { value: number()(fields.value, `${at}.value`), labels: labels(fields.labels, `${at}.labels`) };
  return name === undefined ? parsed : { ...parsed, metricName: name };
};

const appMetric: Parser<AppMetric> = (value, at) => {
  const { name, help, type, aggregator, values } = record(value, at);
  if (!Array.isArray(values)) throw new MalformedError(`${at}.values`, 'an array', values);
  const parsed = {
    name: metricName(name, `${at}.name`),
    help: text(MAX_TEXT)(help, `${at}.help`),
    type: oneOf('counter', 'gauge', 'histogram', 'summary')(type, `${at}.type`),
    aggregator: oneOf('sum', 'first', 'min', 'max', 'average', 'omit')(aggregator, `${at}.aggregator`),
    values: values.filter(isSample).map((each, index) => appValue(each, `${at}.values[${index}]`)),
  };
  return parsed as unknown as AppMetric; // prom-client declares its type as an enum of numbers, and gives a string
};

/** Lenient, because the app makes these: a malformed or excess metric does not affect the others. */
export const appMetrics: Parser<AppMetric[]> = (value, at) => {
  const parsed: AppMetric[] = [];
  let values = 0;
  for (const each of list(metric => metric, Number.POSITIVE_INFINITY)(value, at)) {
    const metric = attempt(() => appMetric(each, at));
    values += metric?.values.length ?? 0;
    if (parsed.length >= MAX_METRICS || values > MAX_VALUES) break;
    if (metric !== undefined) parsed.push(metric);
  }
  return parsed;
};

function attempt<T>(parse: () => T): T | undefined {
  try {
    return parse();
  } catch (error) {
    if (error instanceof MalformedError) return undefined;
    throw error;
  }
}
