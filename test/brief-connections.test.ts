import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BriefConnections } from '../src/balancing/brief-connections.ts';

test('connections become brief below 4 ms on average, and stay brief below 8 ms', () => {
  const recent = new BriefConnections();
  let now = 1000;
  const after = (ms: number) => {
    for (let ended = 0; ended < 20; ended++) recent.add(ms, now);
    now += 100;
    return recent.areBrief(now);
  };
  recent.areBrief(now);
  assert.deepEqual([6, 3, 6, 9, 6].map(after), [false, true, true, false, false]);
});
