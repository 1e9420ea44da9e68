import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { Socket } from 'node:net';
import { after, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { AcceptGate } from '../src/balancing/accept-gate.ts';
import { type GateState, Scoreboard } from '../src/balancing/scoreboard.ts';

/** No process has this id: nobody is woken. */
const NOBODY = 2 ** 30;
const SOON = { signal: AbortSignal.timeout(20_000) };

/** Worker 1's gate, shut: it has three connections, and the scoreboard says that worker 2 has none. */
function closedGate(state: GateState) {
  const scoreboard = Scoreboard.create();
  scoreboard.setPolicy('least-connections');
  scoreboard.clear(2);
  let sequence = 0;
  const other = { id: 2, pid: NOBODY, connections: 0, responseMs: 0, averagedAt: 0, takenAt: 0, turns: 0 };
  const otherSays = () => scoreboard.report({ ...other, state, sequence: ++sequence });
  otherSays();
  const news = new EventEmitter();
  let isOpen = false;
  const gate = new AcceptGate(1, scoreboard);
  const change = (open: boolean) => () => {
    isOpen = open;
    news.emit(open ? 'released' : 'held');
  };
  gate.start({ hold: change(false), release: change(true) });
  for (let count = 0; count < 3; count++) gate.onConnection(new Socket());
  assert.equal(isOpen, false, 'it leaves the next one to the idle worker');
  after(() => gate.stop());
  return { news, otherSays, isOpen: () => isOpen };
}

for (const state of ['open', 'closed'] as const) {
  test(`a gate opens where the better worker says nothing any more, its own gate being ${state}`, async () => {
    const { news } = closedGate(state);
    await once(news, 'released', SOON);
  });
}

test('a gate stays shut while the better worker says something, and opens when it falls silent', async () => {
  const { news, otherSays, isOpen } = closedGate('open');
  let opened = 0;
  news.on('released', () => opened++);
  let [longestMs, lastAt] = [0, performance.now()];
  for (const until = performance.now() + 300; performance.now() < until; await pause(1)) {
    otherSays();
    longestMs = Math.max(longestMs, performance.now() - lastAt);
    lastAt = performance.now();
  }
  // Where this process itself was not let run, that was silence, too.
  assert.ok(opened === 0 || longestMs > 10, `opened ${opened} times, silent for ${longestMs} ms at most`);
  if (!isOpen()) await once(news, 'released', SOON);
});
