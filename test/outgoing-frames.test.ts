/**
 * Following the frames that a server writes to a WebSocket: at every cut of the bytes it knows whether a message is half sent.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { closeFrame, OutgoingFrames } from '../src/worker/outgoing-frames.ts';

const HEAD = Buffer.from('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n');

/** Unmasked, as servers send; masked where an app passes on what a client sent. */
function frame(first: number, length: number, isMasked = false): Buffer {
  const mask = isMasked ? Buffer.alloc(4, 0x55) : Buffer.alloc(0);
  const bit = isMasked ? 0x80 : 0;
  let head: Buffer;
  if (length < 126) head = Buffer.from([first, bit | length]);
  else if (length < 65_536) head = Buffer.from([first, bit | 126, length >> 8, length & 0xff]);
  else {
    head = Buffer.from([first, bit | 127, 0, 0, 0, 0, 0, 0, 0, 0]);
    head.writeBigUInt64BE(BigInt(length), 2);
  }
  // A payload that looks like heads of frames, and of responses.
  return Buffer.concat([head, mask, Buffer.alloc(length, '\x81\x05\r\n\r\n')]);
}

const lengths = fc.oneof(fc.integer({ min: 0, max: 140 }), fc.constantFrom(125, 126, 127, 65_535, 65_536, 70_000));
const control = fc.tuple(fc.constantFrom(0x89, 0x8a), fc.integer({ min: 0, max: 125 }));
/** Compressed messages have one more bit. */
const message = fc.tuple(
  fc.constantFrom(0x81, 0x82, 0xc1),
  fc.array(fc.tuple(lengths, fc.option(control)), { minLength: 1, maxLength: 3 }),
);

test('frames are followed through any cut of the bytes', () => {
  const sizes = fc.array(fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 80_000 })), {
    minLength: 1,
    maxLength: 50,
  });
  fc.assert(
    fc.property(fc.array(message, { maxLength: 4 }), sizes, fc.boolean(), (messages, sizes, isMasked) => {
      const parts: Buffer[] = [HEAD];
      const ends = new Set([HEAD.length]);
      let length = HEAD.length;
      const add = (part: Buffer, isEnd: boolean) => {
        parts.push(part);
        length += part.length;
        if (isEnd) ends.add(length);
      };
      for (const [first, fragments] of messages) {
        for (const [index, [size, between]] of fragments.entries()) {
          const isLast = index === fragments.length - 1;
          const opcode = index === 0 ? first : first & 0xf0;
          add(frame(isLast ? opcode : opcode & 0x7f, size, isMasked), isLast);
          if (between !== null) add(frame(...between, isMasked), isLast);
        }
      }
      const bytes = Buffer.concat(parts);
      const frames = new OutgoingFrames();
      let at = 0;
      for (let cut = 0; at < bytes.length; cut++) {
        const size = sizes[cut % sizes.length] ?? 1;
        frames.push(bytes.subarray(at, at + size));
        at = Math.min(bytes.length, at + size);
        assert.equal(frames.state, at < HEAD.length ? 'handshake' : 'open', `after ${at} bytes`);
        if (at >= HEAD.length) assert.equal(frames.isBetweenMessages, ends.has(at), `after ${at} of ${bytes.length} bytes`);
      }
    }),
    { numRuns: 300 },
  );
});

test('a close frame of the app is seen, and nothing after it', () => {
  const frames = new OutgoingFrames();
  frames.push(Buffer.concat([HEAD, frame(0x81, 3), closeFrame(1001, 'draining'), Buffer.from('anything')]));
  assert.equal(frames.state, 'closing');
});

test('a response that does not switch protocols, or has no end, and bytes that are no frames, are no WebSocket', () => {
  const endless = Buffer.alloc(70_000, 'x');
  for (const bytes of ['HTTP/1.1 401 Unauthorized\r\n\r\n', endless, Buffer.concat([HEAD, Buffer.from([0x83, 0])])]) {
    const frames = new OutgoingFrames();
    frames.push(Buffer.from(bytes));
    assert.equal(frames.state, 'unknown');
  }
});

test('a close frame has its code and reason', () => {
  assert.deepEqual([...closeFrame(1012, 'hi')], [0x88, 4, 0x03, 0xf4, 0x68, 0x69]);
});
