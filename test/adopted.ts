/**
 * Apps that existed before the kit (test/fixtures/adopt), and what each of them must do under it, however it was adopted.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { RawClient } from './process/clients.ts';
import { type Kit, ROOT } from './process/kit.ts';

export const ADOPT = join(ROOT, 'test', 'fixtures', 'adopt');

/** Folders of test/fixtures/adopt, a project each: every framework in both module systems. */
export const PROJECTS = ['express-cjs', 'express-esm', 'koa-cjs', 'koa-esm', 'http-cjs', 'http-esm'] as const;

/** Sized from what the machine has, answers on every worker, reads bodies, and has its open request finished by a drain. */
export async function assertAdopted(kit: Kit, project: string, stop: () => void): Promise<void> {
  const { port } = await kit.ready();
  const { sizing } = (await kit.status()) as unknown as { sizing: { workers: number; reason: string } };
  assert.match(sizing.reason, /CPUs?, rounded half up|memory/, 'sized from the limits');
  const pids = new Set<number>();
  for (let n = 0; n < sizing.workers * 2; n++) {
    await using client = await RawClient.open(port);
    const answer = JSON.parse((await client.ask('/')).body) as { app: string; pid: number };
    assert.equal(answer.app, project);
    pids.add(answer.pid);
  }
  assert.equal(pids.size, sizing.workers, 'every worker serves the app');
  await using echo = await RawClient.open(port);
  const body = JSON.stringify({ echo: project });
  const headers = { 'Content-Type': 'application/json', 'Content-Length': String(body.length) };
  assert.equal((await echo.ask('/echo', { method: 'POST', headers, body })).body, body);

  await using slow = await RawClient.open(port);
  const answer = slow.ask('/slow');
  await kit.statusWhere(({ workers }) => workers.some(({ inFlight }) => inFlight > 0));
  stop();
  assert.equal((await answer).body, 'done', 'the open request is finished');
  await kit.exit();
  assert.equal((await kit.event('primary.exit')).code, 0, 'nothing was cut');
}
