/**
 * The Helm chart k8s/chart as it is in the repository: its files, its default values, and how Helm merges others over them.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { parse } from 'yaml';
import { K8S } from './manifests.ts';

export const CHART = join(K8S, 'chart');

export type Values = { [key: string]: unknown };

export const readChart = (file: string): string => readFileSync(join(CHART, file), 'utf8');

/** What values.yaml has. */
export const DEFAULTS = parse(readChart('values.yaml')) as Values;

/** Every file of templates/, by its path in the chart. */
export const TEMPLATES: readonly string[] = readdirSync(join(CHART, 'templates'), { recursive: true, withFileTypes: true })
  .filter(entry => entry.isFile())
  .map(entry => relative(CHART, join(entry.parentPath, entry.name)))
  .sort();

/** Values over defaults, as Helm does it: maps are merged, lists replaced, and null removes a default. */
export function merged(base: Values, over: Values): Values {
  const all = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const below = all[key];
    if (value === null) delete all[key];
    else all[key] = isMap(value) && isMap(below) ? merged(below, value) : value;
  }
  return all;
}

export const isMap = (value: unknown): value is Values => typeof value === 'object' && value !== null && !Array.isArray(value);

/** `{ 'a.b': 1 }` as `{ a: { b: 1 } }`. */
export function nested(flat: Values): Values {
  const all: Values = {};
  for (const [path, value] of Object.entries(flat)) {
    const keys = path.split('.');
    const last = keys.pop() ?? '';
    let inner = all;
    for (const key of keys) {
      inner[key] ??= {};
      inner = inner[key] as Values;
    }
    inner[last] = value;
  }
  return all;
}
