/**
 * `bosun dev` with a real debugger: it keeps its port over reloads, and no worker that it pauses is taken for hung or for failed.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from '../free-port.ts';
import { until } from '../until.ts';
import { request, requestJson } from './clients.ts';
import { CLEAN, ROOT, startKit } from './kit.ts';
import { temporaryFolder } from './operator.ts';

interface Message {
  id?: number;
  method?: string;
  result?: { result?: { value?: unknown } };
}

/** A client of the inspector protocol. */
class Debugger implements AsyncDisposable {
  readonly #socket: WebSocket;
  readonly #messages: Message[] = [];
  #id = 0;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.addEventListener('message', ({ data }) => this.#messages.push(JSON.parse(String(data)) as Message));
  }

  /** Attaches to the process that has its inspector there, once one has. */
  static async attach(port: number): Promise<Debugger> {
    return until(
      async () => {
        const [target] = (await requestJson<{ id: string }[]>(port, '/json/list').catch(() => undefined)) ?? [];
        return target && Debugger.#open(new WebSocket(`ws://127.0.0.1:${port}/${target.id}`));
      },
      () => `no inspector on port ${port}`,
    );
  }

  /** Undefined if the process ends meanwhile, or has closed its inspector. */
  static async #open(socket: WebSocket): Promise<Debugger | undefined> {
    const client = new Debugger(socket);
    const closed = once(socket, 'close');
    await Promise.race([once(socket, 'open'), closed]);
    if (socket.readyState === WebSocket.OPEN) await Promise.race([client.send('Debugger.enable'), closed]);
    return socket.readyState === WebSocket.OPEN ? client : undefined;
  }

  async send(method: string, params: object = {}): Promise<Message> {
    const id = ++this.#id;
    this.#socket.send(JSON.stringify({ id, method, params }));
    return until(
      () => this.#messages.find(message => message.id === id),
      () => `no answer to ${method}`,
    );
  }

  /** Resolves when it has paused for the `count`th time. */
  async paused(count: number): Promise<void> {
    await until(
      () => this.#messages.filter(({ method }) => method === 'Debugger.paused').length >= count || undefined,
      () => JSON.stringify(this.#messages.map(({ method }) => method)),
    );
  }

  async evaluate(expression: string): Promise<unknown> {
    return (await this.send('Runtime.evaluate', { expression })).result?.result?.value;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.close();
  }
}

/** Longer than the timeouts of the kit in this test. */
const LONG_MS = 900;

test('a debugger finds each new worker on the same port, and neither its breakpoints nor its waiting end a worker', async () => {
  const folder = temporaryFolder();
  const save = (text: string) =>
    writeFileSync(join(folder, 'server.mjs'), `export default (req, res) =>\n  res.end('${text}');\n`);
  save('one');
  const inspector = await freePort();
  const kit = await startKit({
    command: [
      process.execPath,
      join(ROOT, 'src', 'cli', 'bosun.ts'),
      'dev',
      '--json',
      `--inspect-brk=${inspector}`,
      'server.mjs',
    ],
    cwd: folder,
    env: { WORKER_START_TIMEOUT_MS: '500', WORKER_HEARTBEAT_TIMEOUT_MS: '500' },
  });
  const before = await Debugger.attach(inspector);
  await sleep(LONG_MS);
  await before.send('Runtime.runIfWaitingForDebugger');
  await before.paused(1);
  await before.send('Debugger.setBreakpointByUrl', { urlRegex: 'server\\.mjs$', lineNumber: 1 });
  await before.send('Debugger.resume');
  const { port } = await kit.ready();
  const answer = request(port, '/');
  await before.paused(2);
  await sleep(LONG_MS);
  await before.send('Debugger.resume');
  assert.equal((await answer).body, 'one');
  const pid = await before.evaluate('process.pid');
  assert.deepEqual(kit.workerPids, [pid]);

  save('two');
  await kit.event('pool.restart');
  await using after = await until(
    async () => {
      const client = await Debugger.attach(inspector);
      if ((await client.evaluate('process.pid')) !== pid) return client;
      await client[Symbol.asyncDispose]();
      return undefined;
    },
    () => kit.transcript(),
  );
  await after.send('Runtime.runIfWaitingForDebugger');
  await after.paused(1);
  await after.send('Debugger.resume');
  await kit.event('dev.reloaded');
  assert.equal((await request(port, '/')).body, 'two');

  for (const unwanted of ['worker.hung', 'worker.replace', 'dev.failed'])
    assert.deepEqual(kit.all(unwanted), [], kit.transcript());
  await before[Symbol.asyncDispose]();
  assert.deepEqual(await kit.stop('SIGINT'), CLEAN, kit.transcript());
});
