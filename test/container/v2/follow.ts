/**
 * Runs in the virtual machine: the kit serves in a cgroup whose limits change. Prints what happened, a line of JSON for each change;
 * what should have happened is for v2.test.ts to say. With `warm-up` it only starts the kit and ends it, without a limit.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { Agent, get } from 'node:http';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { setTimeout as pause } from 'node:timers/promises';

const CGROUP = '/sys/fs/cgroup/app';
const MIB = 2 ** 20;
const PORT = 3000;
const ADMIN_PORT = 9090;
/** Between the requests of a client: the four of them leave half of an emulated CPU to the kit. */
const PAUSE_MS = 200;
/** Emulated, and beside other tests: nothing takes longer. */
const PATIENCE_MS = 90_000;
const WORKER_START_TIMEOUT_MS = String(PATIENCE_MS);

interface LogEvent {
  event: string;
  [field: string]: unknown;
}

interface Status {
  sizing: { workers: number; memory: { heapPerWorkerMb: number } };
  workers: { pid: number; state: string }[];
  restarts: { byReason: Record<string, number> };
}

class Kit {
  readonly events: LogEvent[] = [];
  readonly #process: ChildProcess;
  readonly #news = new EventEmitter();

  /** @param cgroup folder of the cgroup to run in */
  constructor(cgroup: string, env: Record<string, string>) {
    this.#process = spawn('sh', ['-c', `echo $$ > ${cgroup}/cgroup.procs; exec node src/main.ts`], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, HOST: '127.0.0.1', APP_MODULE: 'test/container/v2/app.mjs', WORKER_START_TIMEOUT_MS, ...env },
    });
    if (this.#process.stdout) createInterface(this.#process.stdout).on('line', line => this.#received(line));
  }

  async event(name: string, matches: (event: LogEvent) => boolean = () => true): Promise<LogEvent> {
    const signal = AbortSignal.timeout(PATIENCE_MS);
    for (;;) {
      const found = this.events.find(event => event.event === name && matches(event));
      if (found !== undefined) return found;
      signal.throwIfAborted();
      await once(this.#news, 'line', { signal });
    }
  }

  async status(): Promise<Status> {
    return JSON.parse(await request(ADMIN_PORT, '/status')) as Status;
  }

  /** Resolves when all workers serve for the first time, and the admin port answers. */
  async ready(): Promise<void> {
    await this.event('pool.ready');
    await this.event('admin.listening');
  }

  /** Resolves when so many workers serve. */
  async serving(count: number): Promise<void> {
    const deadline = performance.now() + PATIENCE_MS;
    for (;;) {
      const { workers } = await this.status();
      if (workers.filter(({ state }) => state === 'ready').length === count) return;
      if (performance.now() > deadline) throw new Error(`${count} workers expected, got ${JSON.stringify(workers)}`);
      await pause(PAUSE_MS);
    }
  }

  async stop(): Promise<number | null> {
    const exit = once(this.#process, 'exit');
    this.#process.kill('SIGTERM');
    const [code] = await exit;
    return code;
  }

  #received(line: string): void {
    this.events.push(JSON.parse(line) as LogEvent);
    this.#news.emit('line');
  }
}

/** No request is retried: every error is a failure. */
async function request(port: number, path: string, agent: Agent | false = false): Promise<string> {
  const signal = AbortSignal.timeout(PATIENCE_MS);
  const request = get({ port, path, host: '127.0.0.1', agent, signal });
  const [response] = await once(request, 'response', { signal });
  const body = await text(response);
  if (response.statusCode !== 200) throw new Error(`${path} must answer 200, got ${response.statusCode}: ${body}`);
  return body;
}

/** Requests on kept and on new connections, until it is stopped. */
class Load {
  answered = 0;
  readonly failures: string[] = [];
  readonly pids = new Set<number>();
  #goesOn = true;
  readonly #agent = new Agent({ keepAlive: true });
  readonly #clients = [this.#run(this.#agent), this.#run(this.#agent), this.#run(this.#agent), this.#run(false)];

  async stop(): Promise<{ answered: number; failures: string[]; pids: number[] }> {
    this.#goesOn = false;
    await Promise.all(this.#clients);
    this.#agent.destroy();
    return { answered: this.answered, failures: this.failures, pids: [...this.pids] };
  }

  /** Resolves when it goes on, and so many workers have answered. */
  async answeredBy(workers: number): Promise<void> {
    const enough = this.answered + 10;
    const deadline = performance.now() + PATIENCE_MS;
    while (this.answered < enough || this.pids.size < workers) {
      if (performance.now() > deadline) throw new Error(`${this.answered} answered, by ${[...this.pids]}: ${this.failures}`);
      await pause(100);
    }
  }

  async #run(agent: Agent | false): Promise<void> {
    while (this.#goesOn) {
      try {
        const { pid } = JSON.parse(await request(PORT, '/', agent)) as { pid: number };
        this.pids.add(pid);
        this.answered++;
      } catch (error) {
        this.failures.push(String(error));
      }
      await pause(PAUSE_MS);
    }
  }
}

const limit = (file: string, value: string) => writeFileSync(`${CGROUP}/${file}`, value);
const report = (name: string, facts: object) => console.log(JSON.stringify({ name, ...facts }));

async function warmUp(): Promise<void> {
  const kit = new Kit('/sys/fs/cgroup', { NODE_CLUSTER_WORKERS: '1' });
  await kit.ready();
  await request(PORT, '/');
  await kit.status();
  await kit.stop();
}

async function follow(): Promise<void> {
  mkdirSync(CGROUP);
  // One worker here as there; with half of an emulated CPU the start alone takes 50 s.
  limit('cpu.max', '100000 100000');
  const kit = new Kit(CGROUP, {});
  await kit.ready();
  limit('cpu.max', '50000 100000');
  report('started', { status: await kit.status() });

  const whileRaised = new Load();
  await whileRaised.answeredBy(1);
  const raisedAt = performance.now();
  limit('cpu.max', '300000 100000');
  await kit.event('sizing.changed', ({ workers }) => workers === 3);
  const noticedMs = performance.now() - raisedAt;
  await kit.serving(3);
  const raisedMs = performance.now() - raisedAt;
  await whileRaised.answeredBy(3);
  report('raised', { noticedMs, ms: raisedMs, load: await whileRaised.stop() });

  const whileLowered = new Load();
  await whileLowered.answeredBy(3);
  const loweredAt = performance.now();
  limit('cpu.max', '100000 100000');
  await kit.event('worker.exit', ({ worker }) => worker === 3);
  await kit.event('worker.exit', ({ worker }) => worker === 2);
  const loweredMs = performance.now() - loweredAt;
  await kit.serving(1);
  await whileLowered.answeredBy(3);
  report('lowered', { ms: loweredMs, load: await whileLowered.stop() });

  const whileRolled = new Load();
  await whileRolled.answeredBy(1);
  const rolledAt = performance.now();
  limit('memory.max', String(256 * MIB));
  await kit.event('pool.restarted');
  const rolledMs = performance.now() - rolledAt;
  const rolled = await kit.status();
  await whileRolled.answeredBy(2);
  const commandLines = rolled.workers.map(({ pid }) => readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0'));
  report('rolled', { ms: rolledMs, status: rolled, commandLines, load: await whileRolled.stop() });

  const lost = await request(PORT, '/leak?mb=300').catch(String);
  await kit.event('worker.exit', ({ reason }) => reason === 'oom');
  await kit.serving(1);
  await request(PORT, '/');
  const [, kernelKills] = /^oom_kill (\d+)$/m.exec(readFileSync(`${CGROUP}/memory.events`, 'utf8')) ?? [];
  report('out of memory', { lost, status: await kit.status(), kernelKills: Number(kernelKills) });

  report('stopped', { code: await kit.stop(), exits: kit.events.filter(({ event }) => event === 'worker.exit') });
}

await (process.argv[2] === 'warm-up' ? warmUp() : follow());
