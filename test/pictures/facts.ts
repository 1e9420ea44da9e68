/**
 * What the drawn pictures show, from where it is said: the defaults of the variables, compose.yaml, and the table of docs/guide/balancing.md.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readConfig } from '../../src/config/config.ts';
import type { Deadlines, Measurement } from './svg.ts';

const ROOT = join(import.meta.dirname, '..', '..');

export function deadlines(): Deadlines {
  const { shutdownDelayMs, shutdownTimeoutMs } = readConfig({ NODE_ENV: 'production' });
  const [, grace] = /stop_grace_period: (\d+)s/.exec(readFileSync(join(ROOT, 'compose.yaml'), 'utf8')) ?? [];
  return { delaySeconds: shutdownDelayMs / 1000, timeoutSeconds: shutdownTimeoutMs / 1000, graceSeconds: Number(grace) };
}

/** The table of `make bench-balancing` in docs/guide/balancing.md: a column for each policy, a row for each measurement. */
export function balancingTable(): { names: string[]; measured: Measurement[] } {
  const page = readFileSync(join(ROOT, 'docs', 'guide', 'balancing.md'), 'utf8');
  const [, table = ''] = /make bench-balancing[\s\S]*?\n\n((?:\|.*\n)+)/.exec(page) ?? [];
  const [head = [], , ...rows] = table
    .trim()
    .split('\n')
    .map(line =>
      line
        .split('|')
        .slice(1, -1)
        .map(cell => cell.trim()),
    );
  const measured = head.slice(1).map((policy, index) => ({
    policy: policy.replaceAll('`', ''),
    ratios: rows.map(cells => {
      const [least = 1, median = 1, most = 1] = (cells[index + 1] ?? '').replaceAll('*', '').split('/').map(Number);
      return [least, median, most] as const;
    }),
  }));
  return { names: rows.map(([name = '']) => name), measured };
}
