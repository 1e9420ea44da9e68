/**
 * Kits for the tests of heap snapshots and CPU profiles.
 */
import assert from 'node:assert/strict';
import { until } from '../until.ts';
import type { Kit } from './kit.ts';
import { type Operated, postControl, startOperated, temporaryFolder } from './operator.ts';

export interface Folders {
  folder: string;
}

/** With a folder of its own for what is found. */
export async function startWithFolder(env: Record<string, string> = {}): Promise<Operated & Folders> {
  const folder = temporaryFolder();
  return { folder, ...(await startOperated({ app: 'koa.mjs', env: { DIAGNOSTICS_DIR: folder, ...env } })) };
}

/** Resolves when a diagnosis is running. Until then its own requests are refused for lack of memory, so that they never run one. */
export async function busy({ socket }: Operated): Promise<void> {
  let last = '';
  await until(
    async () => {
      last = (await postControl(socket, '/heap-snapshot', JSON.stringify({ worker: 2, stream: true }))).body;
      return last.includes('another diagnosis is running') || undefined;
    },
    () => last,
  );
}

export function pidOf(kit: Kit, id: number): number {
  return Number(kit.all('worker.ready').find(({ worker }) => worker === id)?.workerPid);
}

/** As Chrome's developer tools check it. */
export function assertSnapshot(text: string): void {
  const { snapshot, nodes, edges, strings } = JSON.parse(text) as {
    snapshot: { meta: { node_fields: string[] }; node_count: number; edge_count: number };
    nodes: number[];
    edges: number[];
    strings: string[];
  };
  assert.ok(snapshot.node_count > 10_000, `${snapshot.node_count} nodes`);
  assert.equal(nodes.length, snapshot.node_count * snapshot.meta.node_fields.length);
  assert.ok(edges.length > nodes.length / 10 && strings.length > 1000);
}

export function assertProfile(text: string, seconds: number): void {
  const profile = JSON.parse(text) as { nodes: unknown[]; samples: number[]; startTime: number; endTime: number };
  assert.ok(profile.nodes.length > 2, `${profile.nodes.length} nodes`);
  assert.ok(profile.samples.length > 20, `${profile.samples.length} samples`);
  const tookSeconds = (profile.endTime - profile.startTime) / 1e6;
  assert.ok(tookSeconds >= seconds * 0.95, `of ${tookSeconds} s`);
}
