/**
 * A shutdown under load, as behind a load balancer: clients come on new and on kept connections, and before the delay is over the
 * balancer has taken the endpoint out.
 */
import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { freshLoad, keepAliveLoad, type LoadResult } from '../process/loads.ts';
import type { App } from './app.ts';

/** The SHUTDOWN_DELAY_MS of the app under load. */
export const DELAY_MS = 2000;
/** What Docker's own proxy accepts after the delay it can only reset. */
const ENDPOINT_GONE_MS = 1500;

/**
 * Ends the app by `stop` while both kinds of client are busy; resolves when it has exited with 0 and nobody has lost anything. More than `least`
 * answers are needed during the delay.
 */
export async function stopUnderLoad(
  app: App,
  stop: () => Promise<unknown>,
  least = 30,
): Promise<{ kept: LoadResult; fresh: LoadResult }> {
  const path = '/api/counter';
  const [kept, fresh] = [keepAliveLoad(app.port, { path }), freshLoad(app.port, { path })];
  await Promise.all([kept.answered(50), fresh.answered(50)]);
  assert.equal(kept.result.lastOnConnection, 0, 'before the signal connections stay open');

  const stopped = stop();
  await app.event('shutdown.delay');
  const before = { kept: kept.result.answered, fresh: fresh.result.answered };
  await pause(ENDPOINT_GONE_MS);
  for (const load of [kept, fresh]) load.openNoMore();
  assert.ok(
    kept.result.answered > before.kept + least,
    `${kept.result.answered - before.kept} answers on new connections during the delay`,
  );
  assert.ok(fresh.result.answered > before.fresh + least, `${fresh.result.answered - before.fresh} answers of new clients`);
  await stopped;
  assert.equal((await app.event('primary.exit')).code, 0, app.transcript());
  for (const load of [kept, fresh]) {
    const { failures, refused } = await load.stop();
    assert.deepEqual(failures, []);
    assert.equal(refused, 0);
  }
  assert.ok(kept.result.lastOnConnection > least, 'after the signal every answer ends its connection');
  assert.deepEqual(app.all('request.cut'), []);
  return { kept: kept.result, fresh: fresh.result };
}
