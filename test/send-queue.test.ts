import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { type SendQueues, sendQueues, untilAcknowledged } from '../src/balancing/tcp-table.ts';

const line = (local: string, state: string, txQueue: number, remotePort: string) =>
  `   0: ${local} 0100007F:${remotePort} ${state} ${txQueue.toString(16).padStart(8, '0')}:00000000 00:00000000 00000000  0 0 0 1 0000000000000000 100 0 0 10 0`;

/** In virtual time; `left(ms)` are the unacknowledged bytes of each connection. */
async function wait(left: (ms: number) => Record<string, number>, timeoutMs: number): Promise<[number, SendQueues]> {
  let now = 0;
  const world = {
    poll: () => new Map(Object.entries(left(now))),
    now: () => now,
    sleep: async (ms: number) => {
      now += ms;
    },
  };
  const rest = await untilAcknowledged(world, timeoutMs);
  return [now, rest];
}

test('closed connections of the port without an acknowledgement are found, IPv4 and IPv6', () => {
  const folder = mkdtempSync(join(tmpdir(), 'bosun-net-'));
  after(() => rmSync(folder, { recursive: true }));
  const [port, other] = ['0100007F:0BB8', '0100007F:0BB9'];
  const states = ['04', '09', '0B'].map((state, index) => line(port, state, 100 + index, `000${index}`));
  const others = [
    line(port, '0A', 7, '0000'),
    line(port, '01', 7, '0007'),
    line(port, '05', 0, '0008'),
    line(other, '04', 7, '0009'),
  ];
  writeFileSync(join(folder, 'tcp'), `heading\n${[...others, ...states].join('\n')}\n`);
  writeFileSync(join(folder, 'tcp6'), `heading\n${line('00000000000000000000000001000000:0BB8', '04', 9, '0001')}\n`);
  assert.deepEqual([...sendQueues(3000, folder).values()], [100, 101, 102, 9]);
  assert.equal(sendQueues(3000, join(folder, 'none')).size, 0, 'a system that does not tell');
});

test('the wait ends at once if everything is acknowledged', async () => {
  assert.deepEqual(await wait(() => ({}), 25_000), [0, new Map()]);
});

test('the wait goes on while a slow client acknowledges data', async () => {
  const [ms, left] = await wait(ms => (ms < 12_000 ? { slow: 1_200_000 - Math.floor(ms / 4000) * 400_000 } : {}), 25_000);
  assert.deepEqual([ms >= 12_000 && ms < 12_500, left.size], [true, 0]);
});

test('the wait ends for clients that acknowledge nothing for 5 s, but not for a slow one beside them', async () => {
  const [ms, left] = await wait(ms => ({ dead: 5000, ...(ms < 8000 && { slow: 9000 - ms }) }), 25_000);
  assert.deepEqual([ms >= 8000 && ms < 8500, [...left]], [true, [['dead', 5000]]]);
  const [alone] = await wait(() => ({ dead: 1, deadToo: 2 }), 25_000);
  assert.ok(alone >= 5000 && alone < 5500, `${alone} ms`);
});

test('the wait ends at the deadline', async () => {
  assert.deepEqual(await wait(ms => ({ slow: 1_000_000 - ms }), 700), [700, new Map([['slow', 999_300]])]);
  assert.deepEqual(await wait(() => ({ slow: 7 }), 0), [0, new Map([['slow', 7]])]);
});

test('slow polling uses a tenth of the time', async () => {
  let [now, polls] = [0, 0];
  const poll = () => {
    now += 100;
    polls++;
    return new Map([['slow', 1_000_000 - now]]);
  };
  const sleep = async (ms: number) => {
    now += ms;
  };
  await untilAcknowledged({ poll, now: () => now, sleep }, 10_000);
  assert.ok(polls <= 11, `${polls} polls in 10 s`);
});
