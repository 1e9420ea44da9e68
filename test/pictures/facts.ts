/**
 * What the drawn pictures show, from where it is decided: the defaults of the variables, constants of the source, what the kit itself
 * computes, compose.yaml, and the table of docs/guide/balancing.md.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readConfig } from '../../src/config/config.ts';
import { resolveLimits } from '../../src/resources/cgroup.ts';
import { HEAP_SHARE, youngGeneration } from '../../src/resources/heap.ts';
import { size } from '../../src/resources/sizing.ts';
import type { BalancingFacts } from './balancing.ts';
import type { Ports } from './map.ts';
import type { Measurement } from './measured.ts';
import type { SizingFacts } from './sizing.ts';
import type { Deadlines, RestartTimes } from './timelines.ts';

const ROOT = join(import.meta.dirname, '..', '..');

/** A number that a source file keeps to itself. */
function constant(file: string, name: string): number {
  const source = readFileSync(join(ROOT, 'src', file), 'utf8');
  const [, value] = new RegExp(`^(?:export )?const ${name} = ([\\d._]+);`, 'm').exec(source) ?? [];
  assert.ok(value, `src/${file} has no constant ${name}: the picture needs to be drawn from another fact`);
  return Number(value.replaceAll('_', ''));
}

export function deadlines(): Deadlines {
  const { shutdownDelayMs, shutdownTimeoutMs } = readConfig({ NODE_ENV: 'production' });
  const [, grace] = /stop_grace_period: (\d+)s/.exec(readFileSync(join(ROOT, 'compose.yaml'), 'utf8')) ?? [];
  return {
    delaySeconds: shutdownDelayMs / 1000,
    timeoutSeconds: shutdownTimeoutMs / 1000,
    graceSeconds: Number(grace),
    quietSeconds: constant('pool/workers.ts', 'QUIET_AT_SHUTDOWN_MS') / 1000,
  };
}

export function restartTimes(): RestartTimes {
  return {
    proveSeconds: constant('pool/replacement.ts', 'PROVE_MS') / 1000,
    warmUpSeconds: constant('pool/replacement.ts', 'WARM_UP_MS') / 1000,
    quietSeconds: constant('pool/workers.ts', 'QUIET_MS') / 1000,
  };
}

export function balancingFacts(): BalancingFacts {
  return {
    slowFactor: constant('balancing/policy.ts', 'SLOW_FACTOR'),
    minCheckMs: constant('balancing/accept-gate.ts', 'MIN_CHECK_MS'),
    maxCheckMs: constant('balancing/accept-gate.ts', 'MAX_CHECK_MS'),
  };
}

export function ports(): Ports {
  const { port, adminPort } = readConfig({ NODE_ENV: 'production' });
  return { app: port, admin: adminPort, controlSocket: `control socket bosun-${port}.sock` };
}

/** A container of 2 CPUs and 512 MiB. */
export function sizingFacts(): SizingFacts {
  const [cpus, limitMib] = [2, 512];
  const limits = {
    ...resolveLimits(() => undefined),
    quota: { value: cpus, file: '' },
    memory: { value: limitMib * 2 ** 20, file: '' },
  };
  const { workers, memory } = size(limits, { kind: 'auto' }, { cpus: 64, totalMemoryBytes: 2 ** 40 });
  const { heapPerWorkerMb: heapMib, semiSpaceMb } = memory;
  assert.ok(heapMib !== null && semiSpaceMb !== null);
  const of = (name: string) => constant('resources/sizing.ts', name);
  const [primary, starting, young] = [of('PRIMARY_MIB'), of('STARTING_WORKER_MIB'), youngGeneration(semiSpaceMb)];
  const usable = limitMib * of('USABLE_SHARE');
  const each = (usable - primary - starting) / workers;
  assert.equal(Math.floor(each * HEAP_SHARE - young), heapMib, 'the picture divides the memory as src/resources/sizing.ts does');
  return {
    limitMib,
    cpus,
    workers,
    heapMib,
    shares: { kernel: limitMib - usable, primary, starting, young, rest: each - heapMib - young },
  };
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
