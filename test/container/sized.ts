/**
 * What a container says of its size, and what its pool does.
 */
import type { Sizing } from '../../src/protocol/sizing.ts';
import type { App } from './app.ts';

export async function sizingOf(app: App): Promise<Sizing> {
  return (await app.status()).sizing as Sizing;
}

export async function exits(app: App): Promise<Record<string, number>> {
  return (await app.status()).restarts.byReason;
}
