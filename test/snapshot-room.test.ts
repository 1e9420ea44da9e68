/**
 * Whether there is room for a heap snapshot. Real snapshots: test/process/diagnostics.test.ts.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { objectionTo, type SnapshotRoom, type SnapshotTarget } from '../src/control/diagnostics.ts';

const MIB = 2 ** 20;
const DISK: SnapshotTarget = { folder: '/tmp', freeBytes: 2048 * MIB, isMemory: false, keptBytes: 0 };

function room(freeMib: number | undefined, target: Partial<SnapshotTarget> | undefined): SnapshotRoom {
  const headroom = freeMib === undefined ? undefined : { bytes: freeMib * MIB, limitBytes: 512 * MIB, file: '/memory.max' };
  return { worker: 1, heapBytes: 60 * MIB, headroom, target: target && { ...DISK, ...target } };
}

for (const [what, given, objection] of [
  ['enough memory for the snapshot, streamed', room(120, undefined), undefined],
  [
    'too little',
    room(119, undefined),
    /^a snapshot of worker 1 needs about 120 MiB of memory, but only 119 MiB of 512 MiB are free \(\/memory\.max\)$/,
  ],
  ['enough for the snapshot, and its file on a disk', room(120, {}), undefined],
  [
    'enough for the snapshot alone, and its file in memory',
    room(209, { isMemory: true }),
    /needs about 210 MiB .*; 90 of them are for its file, since \/tmp is in memory: remove what is there, or use --output -/,
  ],
  ['enough for both', room(210, { isMemory: true }), undefined],
  [
    'no memory limit, and a full disk',
    room(undefined, { freeBytes: 89 * MIB }),
    /about 90 MiB of disk, and 89 MiB are free in \/tmp: .*--output -/,
  ],
  ['earlier files with room for one more', room(undefined, { keptBytes: 422 * MIB }), undefined],
  [
    'earlier files without',
    room(undefined, { keptBytes: 423 * MIB }),
    /^\/tmp has 423 MiB of earlier snapshots .* may be evicted; .*--output -/,
  ],
] as const)
  test(`a heap snapshot is ${objection === undefined ? 'made' : 'refused'} with ${what}`, () => {
    const said = objectionTo(given);
    if (objection === undefined) assert.equal(said, undefined);
    else assert.match(said ?? '', objection);
  });

test('the first snapshot of a large heap is made, if disk and memory hold it', () => {
  assert.equal(objectionTo({ ...room(undefined, {}), heapBytes: 1000 * MIB }), undefined);
});
