/**
 * What the size of the young generation costs and gains: four workloads in containers of four sizes, each with V8's own maximum semi-space and with
 * those that the kit chooses from. CPU time per request is compared with V8's own choice in the same round, so that a slow minute of the machine
 * counts for both.
 */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fullSpeed } from '../../src/loadtest/generator.ts';
import { failuresOf, Recorder } from '../../src/loadtest/result.ts';
import type { Status } from '../../src/protocol/api.ts';
import { resolveLimits } from '../../src/resources/cgroup.ts';
import { size } from '../../src/resources/sizing.ts';
import { docker, imageId, uniqueName } from '../container/engine.ts';
import { memory } from '../container/limits.ts';
import { until } from '../until.ts';
import { ANY_FOREIGN, compare } from './machine.ts';
import { CPU_PER_REQUEST, ratiosOf, spread, summaryOf } from './rounds.ts';

const MIB = 2 ** 20;
const ROUNDS = Number(process.env.ROUNDS ?? 5);
const SECONDS = Number(process.env.SECONDS ?? 2);
const SIZES = numbers('SIZES', [256, 512, 1024, 2048]);
const CANDIDATES = numbers('SEMI_SPACES', [4, 8, 16, 32]);
const CONNECTIONS = 64;
/** V8 still compiles in the first seconds. */
const WARM_UPS = 3;
const WORKLOADS = { small: 'small answers', held: 'data held across an await', json: 'large JSON', stream: 'streaming' };

/** The names of the containers. */
const RUNNING = new Set<string>();
for (const signal of ['SIGINT', 'SIGTERM'])
  process.once(signal, () => {
    execFileSync('docker', ['rm', '--force', '--volumes', ...RUNNING], { stdio: 'ignore' });
    process.exit(1);
  });

function numbers(name: string, fallback: number[]): number[] {
  return process.env[name]?.split(',').map(Number) ?? fallback;
}

/** The kit's container with one worker. It goes at the end of the benchmark, also of one that is interrupted. */
class Pod implements AsyncDisposable {
  readonly #name = uniqueName();
  origin = '';

  static async start(mb: number, semiSpaceMb: number): Promise<Pod> {
    const pod = new Pod();
    RUNNING.add(pod.#name);
    const env = {
      APP_MODULE: '/app/bench/memory.mjs',
      NODE_CLUSTER_WORKERS: '1',
      WORKER_NODE_OPTIONS: `--max-semi-space-size=${semiSpaceMb}`,
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

  async [Symbol.asyncDispose](): Promise<void> {
    await docker(['rm', '--force', '--volumes', this.#name]);
    RUNNING.delete(this.#name);
  }
}

/** V8's own maximum semi-space in a container of that size. */
async function ownSemiSpace(mb: number): Promise<number> {
  const command = ['node', '--max-old-space-size=100', '-p', 'v8.getHeapStatistics().heap_size_limit'];
  return (Number(await docker(['run', '--rm', ...memory(mb), await imageId(), ...command])) / MIB - 100) / 3;
}

/** What the kit takes for one worker. */
function chosenSemiSpace(mb: number): number | null {
  const limits = { ...resolveLimits(() => undefined), memory: { value: mb * MIB, file: '' } };
  return size(limits, { kind: 'count', count: 1 }, { cpus: 1, totalMemoryBytes: Number.POSITIVE_INFINITY }).memory.semiSpaceMb;
}

async function load(pod: Pod, path: string): Promise<{ microseconds: number }> {
  const recorder = new Recorder();
  const before = await pod.cpuMicroseconds();
  const running = fullSpeed(`${pod.origin}/${path}`, CONNECTIONS, recorder);
  await sleep(SECONDS * 1000);
  await running.stop();
  recorder.pause();
  const used = (await pod.cpuMicroseconds()) - before;
  const measured = recorder.measured();
  if (failuresOf(measured) > 0) throw new Error(`${failuresOf(measured)} requests to /${path} failed`);
  return { microseconds: used / measured.requests };
}

async function measure(mb: number, own: number, path: keyof typeof WORKLOADS): Promise<void> {
  await using started = new AsyncDisposableStack();
  const chosen = chosenSemiSpace(mb);
  const pods = new Map<string, Pod>();
  for (const semiSpaceMb of new Set([own, ...CANDIDATES])) {
    const label = `${semiSpaceMb} MiB${semiSpaceMb === own ? ' (V8)' : ''}${semiSpaceMb === chosen ? ' (kit)' : ''}`;
    const pod = started.use(await Pod.start(mb, semiSpaceMb));
    pods.set(label, pod);
    for (let warmUps = 0; warmUps < WARM_UPS; warmUps++) await load(pod, path);
  }
  const podOf = (label: string): Pod => pods.get(label) as Pod;
  const [baseline = '', ...others] = pods.keys();
  const comparison = await compare(
    {
      name: `memory-${mb}-${path}`,
      title: `${WORKLOADS[path]} in ${mb} MiB`,
      subjects: [baseline, ...others],
      baseline,
      figures: { microseconds: CPU_PER_REQUEST },
      rounds: ROUNDS,
      measure: label => load(podOf(label), path),
    },
    ANY_FOREIGN, // the containers are children of the engine
  );
  for (const [label, pod] of pods) {
    const { microseconds = [] } = comparison.values[label] ?? {};
    const [worker] = (await pod.status()).workers;
    const cells = [
      `${mb} MiB`,
      WORKLOADS[path],
      label,
      summaryOf(microseconds).median.toFixed(0),
      spread(ratiosOf(comparison, label, 'microseconds'), 2),
      ((worker?.memory.rss ?? Number.NaN) / MIB).toFixed(0),
      (await pod.peakMib()).toFixed(0),
      String(await pod.kernelKills()),
    ];
    console.log(`| ${cells.join(' | ')} |`);
  }
}

console.log(
  '| limit | workload | semi-space | CPU µs a request | ratio to V8’s own, min/median/max | RSS MiB | peak MiB | OOM kills |',
);
console.log(`|${' --- |'.repeat(8)}`);
const workloads = process.env.WORKLOADS?.split(',') ?? Object.keys(WORKLOADS);
for (const mb of SIZES) {
  const own = await ownSemiSpace(mb);
  for (const path of workloads) {
    if (!(path in WORKLOADS)) throw new Error(`WORKLOADS must be of ${Object.keys(WORKLOADS).join()}, got ${path}`);
    await measure(mb, own, path as keyof typeof WORKLOADS);
  }
}
