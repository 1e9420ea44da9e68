import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { after, test } from 'node:test';
import { type WebSocket, WebSocketServer } from 'ws';
import { stackAt } from '../src/pool/hung-stack.ts';
import { InspectorLines } from '../src/pool/worker-io.ts';

const PID = 4711;
const frame = { functionName: 'spin', location: { scriptId: '7', lineNumber: 2, columnNumber: 4 }, scopeChain: [] };
const PAUSED = { method: 'Debugger.paused', params: { callFrames: [frame] } };
const PARSED = { method: 'Debugger.scriptParsed', params: { scriptId: '7', url: 'file:///app.mjs' } };
const OURS = { id: 3, result: { result: { type: 'number', value: PID } } };

/** A listener that calls `answer` for each connection. */
async function listener(answer: (socket: WebSocket) => void): Promise<string> {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0 });
  server.on('connection', socket => {
    socket.on('error', () => undefined);
    answer(socket);
  });
  after(() => {
    for (const client of server.clients) client.terminate();
    server.close();
  });
  await once(server, 'listening');
  return `ws://127.0.0.1:${(server.address() as AddressInfo).port}/x`;
}

const saying = (...messages: unknown[]) =>
  listener(socket => {
    for (const message of messages) socket.send(typeof message === 'string' ? message : JSON.stringify(message));
  });

test('the stack of a paused process has a line for each frame, at most fifty', async () => {
  const url = await saying({ id: 1, result: {} }, PARSED, PAUSED, OURS);
  assert.deepEqual(await stackAt(url, PID, 60_000), ['spin (file:///app.mjs:3:5)']);
  const deep = { method: 'Debugger.paused', params: { callFrames: Array(12_000).fill(frame) } };
  const stack = await stackAt(await saying(PARSED, deep, OURS), PID, 60_000);
  assert.deepEqual([stack?.length, stack?.at(-1)], [51, 'and 11950 more']);
});

for (const [what, ...messages] of [
  ['no JSON', '<html>'],
  ['JSON that is no object', 'null'],
  ['an array', '[]'],
  ['frames that are none', { method: 'Debugger.paused', params: { callFrames: [{ functionName: 1 }] } }],
  ['no frames', { method: 'Debugger.paused', params: null }],
  ['a script without a name', { method: 'Debugger.scriptParsed', params: {} }],
  ['another process', PAUSED, { id: 3, result: { result: { value: 1 } } }],
  ['an error for an answer', PAUSED, { id: 3, error: { message: 'no' } }],
  ['a message of 33 MiB', 'x'.repeat(33 << 20)],
] as [string, ...unknown[]][]) {
  test(`a peer that sends ${what} costs only the stack`, async () => {
    assert.equal(await stackAt(await saying(...messages), PID, 60_000), undefined);
  });
}

test('an endless stream of messages ends after 64 MiB, and silence after the timeout', async () => {
  const text = JSON.stringify({ method: 'x', params: 'y'.repeat(1 << 20) });
  const endless = await listener(socket => {
    const pour = () => socket.send(text, error => !error && pour());
    pour();
  });
  assert.equal(await stackAt(endless, PID, 60_000), undefined);
  assert.equal(await stackAt(await listener(() => undefined), PID, 20), undefined);
  for (const nobody of ['ws://127.0.0.1:1/x', 'ws://127.0.0.1:99999/x'])
    assert.equal(await stackAt(nobody, PID, 60_000), undefined);
});

test('the address of an inspector is read and never passed on, unlike the lines around it', () => {
  const [passed, addresses] = [[] as string[], [] as string[]];
  const sink = { write: (lines: Buffer) => void passed.push(lines.toString()) };
  const lines = new InspectorLines(sink, address => void addresses.push(address));
  const write = (text: string) => lines.write(Buffer.from(text));
  const address = 'ws://127.0.0.1:40001/1aff7f5e-4df8-47cd-9841-b430fb448b14';
  write('Debugger attached.\nä\n'); // written by the app: no inspector has opened
  write(
    `before\nand thisDebugger listening on ${address}\nFor help, see: https://nodejs.org/learn/getting-started/debugging\nö\n`,
  );
  write('Debugger attached.\n');
  write(`Waiting for the debugger to disconnect...\nDebugger ending on ${address}\nFor help, see: https://nodejs.org/x\nlast\n`);
  write('Debugger listening on ws://10.0.0.1:80/another\n');
  assert.equal(passed.join(''), 'Debugger attached.\nä\nbefore\nand thisö\nlast\n');
  assert.deepEqual(addresses, [address]);
});
