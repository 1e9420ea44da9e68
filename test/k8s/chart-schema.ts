/** values.schema.json of the chart, as Helm applies it: to the values over the defaults. */
import { Ajv } from 'ajv';
import { DEFAULTS, merged, readChart, type Values } from './chart.ts';

export const SCHEMA = JSON.parse(readChart('values.schema.json')) as Values;

const validate = new Ajv({ allErrors: true, allowUnionTypes: true }).compile(SCHEMA);

/** What the schema says of values, one line each. */
export function valueProblems(values: Values): string[] {
  validate(merged(DEFAULTS, values));
  return (validate.errors ?? []).map(({ instancePath, message }) => `${instancePath} ${message}`);
}
