/**
 * The metrics as Prometheus reads them.
 */
import assert from 'node:assert/strict';
import { until } from '../until.ts';
import type { Kit } from './kit.ts';

/** Every series of `/metrics` by its name and labels. */
export async function scrape(kit: Kit): Promise<Map<string, number>> {
  const { status, body } = await kit.probe('/metrics');
  assert.equal(status, 200, body);
  const lines = body.split('\n').filter(line => line !== '' && !line.startsWith('#'));
  return new Map(lines.map(line => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]));
}

/** Over all labels. */
export function sum(series: ReadonlyMap<string, number>, name: string): number {
  return [...series].reduce((total, [key, value]) => (key.replace(/\{.*/, '') === name ? total + value : total), 0);
}

/** Workers report once a second: waits for `expected`, and fails on more than that. */
export async function settles(read: () => Promise<number>, expected: number): Promise<void> {
  let last = Number.NaN;
  await until(
    async () => {
      last = await read();
      assert.ok(last <= expected, `${last} is more than ${expected}`);
      return last === expected || undefined;
    },
    () => `${expected} expected, got ${last}`,
  );
}
