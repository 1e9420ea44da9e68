/**
 * Apps that existed before the kit (test/fixtures/adopt), and what each of them must do under it, however it was adopted.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { everyWorker, RawClient, request } from './process/clients.ts';
import { ROOT, type Status } from './process/kit.ts';
import { until } from './until.ts';

export const ADOPT = join(ROOT, 'test', 'fixtures', 'adopt');

/** A kit that serves one of them, as a process or in a container. */
export interface Adopter {
  /** Of the app, on 127.0.0.1. */
  port: number;
  status(): Promise<Status>;
  /** Has it drain; resolves with the primary's exit code. */
  stop(): Promise<number>;
}

/** Sized from what the machine has, served by every worker, reads bodies, and has its open request finished by the drain. */
export async function assertAdopted({ port, status, stop }: Adopter, project: string): Promise<void> {
  const { sizing, workers } = await status();
  assert.match((sizing as { reason: string }).reason, /CPUs?, rounded half up|memory/, 'sized from the limits');
  await everyWorker(port, workers.length, async client => {
    const { app, pid } = await client.requestJson<{ app: string; pid: number }>('/');
    assert.equal(app, project);
    return pid;
  });
  const body = JSON.stringify({ echo: project });
  const headers = { 'Content-Type': 'application/json', 'Content-Length': String(body.length) };
  assert.equal((await request(port, '/echo', { method: 'POST', headers, body })).body, body);

  await using slow = await RawClient.open(port);
  const answer = slow.request('/slow');
  await until(
    async () => (await status()).workers.some(({ inFlight }) => inFlight > 0) || undefined,
    () => 'no request in flight',
  );
  const exitCode = stop();
  assert.equal((await answer).body, 'done', 'the open request is finished');
  assert.equal(await exitCode, 0, 'nothing was cut');
}
