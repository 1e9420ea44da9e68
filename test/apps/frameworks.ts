/**
 * `make test-apps`: apps as their frameworks' quick starts write them (rows.ts), installed from the registry and built beside the packed kit. Each
 * starts with `bosun start`, serves under load, and loses no request to a rolling restart and a SIGTERM.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { freePort } from '../free-port.ts';
import { type Answer, request } from '../process/clients.ts';
import { CLEAN, startKit } from '../process/kit.ts';
import { keepAliveLoad } from '../process/loads.ts';
import { temporaryFolder } from '../process/operator.ts';
import { PATH, installKit, layOutWithKit, registryError } from './projects.ts';
import { APPS, type App } from './rows.ts';

const run = promisify(execFile);
/** As many at a time as CI has CPUs. */
const CONCURRENCY = 2;
const LOAD = { clients: 4, pauseMs: 5, longestMs: 120_000 };

/** The levels at which the log names a server of the app that the kit serves. */
const ADOPTED = { listens: ['info'], 'ignores PORT': ['warn'], exports: [] } satisfies Record<App['way'], string[]>;

const offline = await registryError();
const skip = offline !== undefined && `npm reaches no registry: ${offline}`;
if (skip) console.error(`test-apps is skipped: ${skip}`);

describe('bosun start of', { concurrency: CONCURRENCY, skip }, () => {
  let kit = '';
  before(async () => {
    kit = await installKit();
  });

  for (const [name, apps] of Map.groupBy(APPS, app => app.folder)) {
    // Tests do not wait for one promise: node:test would count what a test starts to another one, and end it with that one.
    describe(name, () => {
      let folder = '';
      before(async () => {
        folder = await layOutWithKit(name, kit);
      });
      for (const app of apps) test(app.name, () => assertRuns(app, folder));
    });
  }
});

async function assertRuns(app: App, folder: string): Promise<void> {
  const { start, way, path = '/', headers = {}, status = 200, body, ownPort, prints } = app;
  const bosun = join(folder, 'node_modules', '.bin', 'bosun');
  const socket = join(temporaryFolder(), 'control.sock');
  const PORT = ownPort === undefined ? String(await freePort()) : undefined;
  const kit = await startKit({
    command: [bosun, 'start', ...start.split(' ').filter(Boolean)],
    cwd: folder,
    detached: true,
    env: { PATH, PORT, CONTROL_SOCKET: socket },
  });
  const { port } = await kit.ready();
  assert.equal(port, ownPort ?? Number(PORT));
  const first = await request(port, path, { headers });
  assert.equal(first.status, status, first.body);
  assert.match(first.body, body);
  const levels = new Set(kit.all('app.adopted').map(({ level }) => level));
  assert.deepEqual([...levels], ADOPTED[way], kit.transcript());

  const isAnswer = (answer: Answer) => answer.status === status && body.test(answer.body);
  const load = keepAliveLoad(port, { ...LOAD, path, headers, isAnswer });
  await load.answered(100);
  await run(bosun, ['restart', '--socket', socket], { cwd: folder, env: { ...process.env, PATH } });
  await load.answered(load.result.answered + 50);
  load.openNoMore();
  const exit = await kit.stop();
  const { failures } = await load.stop();
  assert.deepEqual(failures, [], kit.transcript());
  assert.deepEqual(exit, CLEAN, kit.transcript());
  await kit.workersGone();
  if (prints !== undefined) assert.match(kit.stderr, prints, kit.transcript());
}
