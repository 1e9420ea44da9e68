/**
 * What the workers of pods have sent and received (fixture broadcasts.ts); a pod is a container, or a kit on this machine.
 */
import assert from 'node:assert/strict';
import { request, requestJson } from '../process/clients.ts';
import type { Operated } from '../process/operator.ts';
import { until } from '../until.ts';
import { WORKERS } from './pods.ts';

const PATIENCE_MS = 60_000;

export interface Account {
  self: string;
  sent: number;
  received: Record<string, { count: number; outOfOrder: number; last: number }>;
}

export interface Pod {
  port: number;
  adminPort: number;
  transcript(): string;
}

export const podOf = ({ kit, port }: Operated): Pod => ({ port, adminPort: kit.adminPort, transcript: () => kit.transcript() });

/** What every worker of these pods has received, by worker. */
export async function accounts(pods: readonly Pod[]): Promise<Map<string, Account>> {
  const found = new Map<string, Account>();
  await until(
    async () => {
      for (const { port } of pods) {
        const account = await requestJson<Account>(port, '/');
        found.set(account.self, account);
      }
      return found.size === pods.length * WORKERS || undefined;
    },
    () => `${[...found.keys()]}`,
  );
  return found;
}

/** Resolves when every worker has received all these numbers from all these senders, each once and in order. */
export async function assertAllReceive(pods: readonly Pod[], expected: Record<string, number>): Promise<void> {
  let seen: Map<string, Account> = new Map();
  const transcripts = () => pods.map(pod => pod.transcript()).join('\n\n');
  await until(
    async () => {
      seen = await accounts(pods);
      const isComplete = ({ received }: Account) =>
        Object.entries(expected).every(([from, n]) => (received[from]?.last ?? 0) >= n);
      return [...seen.values()].every(isComplete) || undefined;
    },
    () => `${JSON.stringify(expected)} expected, received ${JSON.stringify([...seen])}; ${transcripts()}`,
    PATIENCE_MS,
  );
  for (const [worker, { received }] of seen) {
    for (const [from, n] of Object.entries(expected))
      assert.deepEqual(received[from], { count: n, outOfOrder: 0, last: n }, `${worker} from ${from}`);
  }
}

export async function metric({ adminPort }: Pod, series: string): Promise<number> {
  const { body } = await request(adminPort, '/metrics');
  return Number(
    body
      .split('\n')
      .find(line => line.startsWith(`${series} `))
      ?.slice(series.length + 1),
  );
}
