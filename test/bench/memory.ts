/**
 * What the size of the young generation costs and gains: four workloads in containers of four sizes, each with V8's own maximum semi-space and with
 * those that the kit chooses from. CPU time per request is compared with V8's own choice in the same round, so that a slow minute of the machine
 * counts for both.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fullSpeed } from '../../src/loadtest/generator.ts';
import { failuresOf, Recorder } from '../../src/loadtest/result.ts';
import type { Status } from '../../src/protocol/api.ts';
import { docker, imageId, uniqueName } from '../container/engine.ts';
import { memory } from '../container/limits.ts';
import { until } from '../until.ts';

const MIB = 2 ** 20;
const ROUNDS = Number(process.env.ROUNDS ?? 5);
const SECONDS = Number(process.env.SECONDS ?? 2);
const SIZES = numbers('SIZES', [256, 512, 1024, 2048]);
const CANDIDATES = numbers('SEMI_SPACES', [4, 8, 16, 32]);
const CONNECTIONS = 64;
const WORKLOADS = { small: 'small answers', held: 'data held across an await', json: 'large JSON', stream: 'streaming' };

interface Measurement {
  pod: Pod;
  label: string;
  microseconds: number[];
  p99Ms: number[];
}

function numbers(name: string, fallback: number[]): number[] {
  return process.env[name]?.split(',').map(Number) ?? fallback;
}

/** The kit's container with one worker. */
class Pod implements AsyncDisposable {
  readonly #name = uniqueName();
  origin = '';

  /** @param semiSpaceMb undefined for the kit's own choice */
  static async start(mb: number, semiSpaceMb?: number): Promise<Pod> {
    const pod = new Pod();
    const env = {
      APP_MODULE: '/app/bench/memory.mjs',
      NODE_CLUSTER_WORKERS: '1',
      ...(semiSpaceMb !== undefined && { WORKER_NODE_OPTIONS: `--max-semi-space-size=${semiSpaceMb}` }),
    };
    const variables = Object.entries(env).map(([name, value]) => `--env=${name}=${value}`);
    const apps = `--volume=${join(import.meta.dirname, 'apps')}:/app/bench:ro`;
    const flags = ['--detach', '--name', pod.#name, '--publish=127.0.0.1::3000', '--no-healthcheck', '--cpus', '1', apps];
    await docker(['run', ...flags, ...memory(mb), ...variables, await imageId()]);
    pod.origin = `http://${await docker(['port', pod.#name, '3000'])}`;
    const answers = () =>
      fetch(`${pod.origin}/small`).then(
        ({ ok }) => ok || undefined,
        () => undefined,
      );
    await until(answers, () => `${pod.#name} does not serve`);
    return pod;
  }

  run(...command: string[]): Promise<string> {
    return docker(['exec', this.#name, ...command]);
  }

  async status(): Promise<Status> {
    return JSON.parse(await this.run('bosun', 'status', '--json')) as Status;
  }

  /** What the kernel counts: that of the files which this machine's version of cgroups has. */
  async #counted(pattern: RegExp, ...files: string[]): Promise<number> {
    const text = await this.run('sh', '-c', `cat ${files.map(file => `/sys/fs/cgroup/${file}`).join(' ')} 2> /dev/null || true`);
    return Number(pattern.exec(text)?.[1]);
  }

  async cpuMicroseconds(): Promise<number> {
    const version2 = await this.#counted(/^usage_usec (\d+)$/m, 'cpu.stat');
    return Number.isNaN(version2) ? (await this.#counted(/^(\d+)$/m, 'cpuacct/cpuacct.usage')) / 1000 : version2;
  }

  async peakMib(): Promise<number> {
    return (await this.#counted(/^(\d+)$/m, 'memory/memory.max_usage_in_bytes', 'memory.peak')) / MIB;
  }

  kernelKills(): Promise<number> {
    return this.#counted(/^oom_kill (\d+)$/m, 'memory/memory.oom_control', 'memory.events');
  }

  /** V8's own maximum semi-space in this container. */
  async ownSemiSpace(): Promise<number> {
    const limit = await this.run('node', '--max-old-space-size=100', '-p', 'v8.getHeapStatistics().heap_size_limit');
    return (Number(limit) / MIB - 100) / 3;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await docker(['rm', '--force', '--volumes', this.#name]);
  }
}

async function load(pod: Pod, path: string): Promise<{ microseconds: number; p99Ms: number }> {
  const recorder = new Recorder();
  const before = await pod.cpuMicroseconds();
  const running = fullSpeed(`${pod.origin}/${path}`, CONNECTIONS, recorder);
  await sleep(SECONDS * 1000);
  await running.stop();
  recorder.pause();
  const used = (await pod.cpuMicroseconds()) - before;
  const measured = recorder.measured();
  if (failuresOf(measured) > 0) throw new Error(`${failuresOf(measured)} requests to /${path} failed`);
  return { microseconds: used / measured.requests, p99Ms: measured.latencyMs.p99 };
}

async function compare(mb: number, path: keyof typeof WORKLOADS): Promise<void> {
  await using pods = new AsyncDisposableStack();
  const kit = pods.use(await Pod.start(mb));
  const { semiSpaceMb: chosen } = (await kit.status()).sizing.memory;
  const own = await kit.ownSemiSpace();
  const measurements: Measurement[] = [];
  for (const semiSpaceMb of new Set([own, ...CANDIDATES])) {
    const label = `${semiSpaceMb} MiB${semiSpaceMb === own ? ' (V8)' : ''}${semiSpaceMb === chosen ? ' (kit)' : ''}`;
    measurements.push({ pod: pods.use(await Pod.start(mb, semiSpaceMb)), label, microseconds: [], p99Ms: [] });
  }
  for (let round = 0; round <= ROUNDS; round++) {
    // The order turns round, and the first round only warms up.
    for (const measurement of round % 2 === 0 ? measurements : measurements.toReversed()) {
      const { microseconds, p99Ms } = await load(measurement.pod, path);
      if (round === 0) continue;
      measurement.microseconds.push(microseconds);
      measurement.p99Ms.push(p99Ms);
    }
  }
  for (const { pod, label, microseconds, p99Ms } of measurements) {
    const ratios = microseconds.map((value, round) => value / (measurements[0]?.microseconds[round] ?? Number.NaN));
    const [worker] = (await pod.status()).workers;
    const cells = [
      `${mb} MiB`,
      WORKLOADS[path],
      label,
      String(Math.round(median(microseconds))),
      `${Math.min(...ratios).toFixed(2)} / ${median(ratios).toFixed(2)} / ${Math.max(...ratios).toFixed(2)}`,
      median(p99Ms).toFixed(0),
      String(Math.round((worker?.memory.rss ?? Number.NaN) / MIB)),
      String(Math.round(await pod.peakMib())),
      String(await pod.kernelKills()),
    ];
    console.log(`| ${cells.join(' | ')} |`);
  }
}

function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? (sorted[middle] ?? Number.NaN) : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2;
}

console.log(
  '| limit | workload | semi-space | CPU µs a request | ratio to V8: min / median / max | p99 ms | RSS MiB | peak MiB | OOM kills |',
);
console.log(`|${' --- |'.repeat(9)}`);
const workloads = process.env.WORKLOADS?.split(',') ?? Object.keys(WORKLOADS);
for (const mb of SIZES) {
  for (const path of workloads) {
    if (!(path in WORKLOADS)) throw new Error(`WORKLOADS must be of ${Object.keys(WORKLOADS).join()}, got ${path}`);
    await compare(mb, path as keyof typeof WORKLOADS);
  }
}
