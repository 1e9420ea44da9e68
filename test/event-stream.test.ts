/**
 * The bounds of `/events`: one that does not read costs little and is ended, the others get everything, and they are not too many.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, get, type IncomingMessage, type ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { after, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { EventStream } from '../src/admin/sse.ts';
import type { Sample, ShownEvent, Status } from '../src/protocol/api.ts';

const MIB = 2 ** 20;
const FILLER = 'x'.repeat(64 * 1024);
const MAX_SAMPLES = 2000;

async function serving() {
  const responses: ServerResponse[] = [];
  const history = {
    past: (audience: string) => ({
      samples: [{ at: 1 } as Sample],
      hour: [],
      day: [],
      events: [{ text: `was, for ${audience}` } as ShownEvent],
    }),
    fleet: [],
    listeners: new Set<never>(),
    status: () => ({ state: 'ready' }) as Status,
  };
  const access: { token?: string } = {};
  const stream = new EventStream({ history, token: () => access.token, maxReaders: () => 50 });
  const server = createServer((_request, response) => {
    responses.push(response);
    stream.serve(response);
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const address = server.address();
  assert.ok(typeof address === 'object' && address !== null);
  after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { stream, responses, port: address.port, access };
}

async function listen(port: number): Promise<IncomingMessage> {
  const [response] = await once(get({ port, host: '127.0.0.1', path: '/events', agent: false }), 'response');
  return response as IncomingMessage;
}

test('one that does not read is ended at 4 MiB, and one that does gets every sample', async () => {
  const { stream, responses, port } = await serving();
  const silent = connect(port, '127.0.0.1').pause();
  silent.on('error', () => undefined);
  after(() => silent.destroy());
  silent.write('GET /events HTTP/1.1\r\nHost: x\r\n\r\n');
  while (responses.length < 1) await turn();
  const reader = await listen(port);
  let received = '';
  let count = 0;
  reader.setEncoding('utf8').on('data', (chunk: string) => {
    received += chunk;
    const parts = received.split('event: sample\n');
    count += parts.length - 1;
    received = parts.at(-1) ?? '';
  });
  const [unread] = responses;
  assert.ok(unread);
  let most = 0;
  let sent = 0;
  while (!unread.destroyed && sent < MAX_SAMPLES) {
    stream.onSample({ at: ++sent, FILLER } as unknown as Sample);
    most = Math.max(most, unread.writableLength);
    const wanted = sent;
    for (let turns = 0; count < wanted - 8 && turns < 10_000; turns++) await turn(); // the reader keeps up
  }
  assert.ok(unread.destroyed, `${most} bytes wait after ${sent} samples`);
  assert.ok(most > 3 * MIB && most < 5 * MIB, `at most ${most} bytes have waited`);
  stream.onSample({ at: ++sent } as Sample);
  while (count < sent) await once(reader, 'data');
  assert.equal(count, sent);
});

test('the first message is the history, followed by the current status', async () => {
  const { port } = await serving();
  const reader = await listen(port);
  const [chunk] = await once(reader.setEncoding('utf8'), 'data');
  assert.equal(
    chunk,
    'retry: 1000\n\nevent: history\ndata: {"samples":[{"at":1}],"hour":[],"day":[],"events":[{"text":"was, for open"}]}\n\nevent: fleet\ndata: []\n\ndata: {"state":"ready"}\n\n',
  );
});

test('50 readers are served; the next one gets 503 with Retry-After until one has closed', async () => {
  const { responses, port } = await serving();
  const readers = await Promise.all(Array.from({ length: 50 }, () => listen(port)));
  for (const reader of readers) reader.on('error', () => undefined).resume();
  const refused = await listen(port);
  assert.deepEqual([refused.statusCode, refused.headers['retry-after']], [503, '5']);
  refused.resume();
  const closed = responses.slice(0, 50).map(response => once(response, 'close'));
  readers[0]?.destroy();
  await Promise.race(closed);
  assert.equal((await listen(port)).statusCode, 200);
});

test('a reader without the current token is disconnected', async () => {
  const { stream, port, access } = await serving();
  const before = (await listen(port)).setEncoding('utf8');
  const end = once(before, 'end');
  let received = '';
  before.on('data', chunk => {
    received += chunk;
  });
  access.token = 'a token';
  const operator = (await listen(port)).setEncoding('utf8');
  const [history] = await once(operator, 'data');
  assert.match(history, /was, for operator/);
  const shown = { at: 1, kind: 'exit', text: 'open' } as const;
  stream.onEvent({ open: shown, operator: { ...shown, text: 'with the message' } });
  const [event] = await once(operator, 'data');
  assert.match(event, /event: lifecycle\n.*with the message/);
  await end;
  assert.doesNotMatch(received, /lifecycle/);
});
