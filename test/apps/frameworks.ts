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
import { request } from '../process/clients.ts';
import { CLEAN, startKit } from '../process/kit.ts';
import { keepAliveLoad } from '../process/loads.ts';
import { temporaryFolder } from '../process/operator.ts';
import { installKit, layOutWithKit, registryError } from './projects.ts';
import { APPS, type App } from './rows.ts';

const run = promisify(execFile);
/** As many at a time as CI has CPUs. */
const CONCURRENCY = 2;
const LOAD = { clients: 4, pauseMs: 5, longestMs: 120_000 };

const offline = await registryError();
const skip = offline !== undefined && `npm reaches no registry: ${offline}`;
if (skip) console.error(`test-apps is skipped: ${skip}`);

describe('bosun start of', { concurrency: CONCURRENCY, skip }, () => {
  let kit = '';
  const laidOut = new Map<string, Promise<string>>();

  before(async () => {
    kit = await installKit();
  });

  /** Once for all apps of a folder. */
  function project(name: string): Promise<string> {
    const folder = laidOut.get(name) ?? layOutWithKit(name, kit);
    laidOut.set(name, folder);
    return folder;
  }

  for (const app of APPS) test(app.name, async () => assertRuns(app, await project(app.folder)));
});

async function assertRuns({ start, path = '/', status = 200, body, env = {}, ownPort }: App, folder: string): Promise<void> {
  const bosun = join(folder, 'node_modules', '.bin', 'bosun');
  const socket = join(temporaryFolder(), 'control.sock');
  const PORT = ownPort === undefined ? String(await freePort()) : undefined;
  const kit = await startKit({
    command: [bosun, 'start', ...start.split(' ').filter(Boolean)],
    cwd: folder,
    detached: true,
    env: { PORT, CONTROL_SOCKET: socket, ...env },
  });
  const { port } = await kit.ready();
  if (ownPort !== undefined) assert.equal(port, ownPort);
  const first = await request(port, path);
  assert.equal(first.status, status, first.body);
  assert.match(first.body, body);

  const load = keepAliveLoad(port, { ...LOAD, path, isAnswer: answer => answer.status === status && body.test(answer.body) });
  await load.answered(100);
  await run(bosun, ['restart', '--socket', socket], { cwd: folder });
  const after = load.result.answered;
  await load.answered(after + 50);
  load.openNoMore();
  const exit = await kit.stop();
  const result = await load.stop();
  assert.deepEqual(result.failures, [], kit.transcript());
  assert.deepEqual(exit, CLEAN, kit.transcript());
  await kit.workersGone();
}
