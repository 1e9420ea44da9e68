import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { describe, test } from 'node:test';
import { APP_LIMITS, ProtocolError, ReplyGuard } from '../src/state/reply-guard.ts';
import { seededRandom } from './random.ts';

const LIMITS = { maxBytes: 1000, maxElements: 50 };

/** In pieces of that many bytes. */
function check(bytes: string | Buffer, size = 1 << 20): void {
  const guard = new ReplyGuard(LIMITS);
  const all = Buffer.from(bytes as string);
  for (let at = 0; at < all.length; at += size) guard.check(all.subarray(at, at + size));
}

describe('replies of Redis', () => {
  const GOOD = [
    '+OK\r\n',
    '-ERR no\r\n',
    ':-12\r\n',
    ':+3\r\n',
    '$5\r\nhel\r\n\r\n',
    '$0\r\n\r\n',
    '$-1\r\n',
    '*-1\r\n',
    '*0\r\n',
    '*2\r\n$1\r\na\r\n*1\r\n:1\r\n',
    '_\r\n',
    '#t\r\n',
    ',1.5e3\r\n',
    ',inf\r\n',
    '(123456789012345678901234567890\r\n',
    '=7\r\ntxt:abc\r\n',
    '=4\r\ntxt:\r\n',
    `:${'1'.repeat(20)}\r\n`,
    '!5\r\nERR x\r\n',
    '~1\r\n+a\r\n',
    '%1\r\n+a\r\n%0\r\n',
    '>3\r\n+message\r\n$1\r\na\r\n$1\r\nb\r\n',
  ];
  test('valid replies pass, in any pieces', () => {
    for (const reply of GOOD) for (const size of [1, 2, 3, 1000]) check(reply, size);
    for (const size of [1, 7, 1000]) check(GOOD.join(''), size);
  });

  const BAD: [string, RegExp][] = [
    ['*-5\r\n', /malformed length of type "\*"/],
    ['$-5\r\n', /malformed length of type "\$"/],
    ['%-1\r\n', /malformed length/],
    ['>-1\r\n', /malformed length/],
    ['>0\r\n', /an empty push/],
    ['*1e3\r\n', /malformed length/],
    ['*\r\n', /malformed length/],
    ['$99999999999999999999\r\n', /malformed length/],
    ['$99999999\r\n', /more than 1000 bytes/],
    ['*51\r\n', /more than 50 elements/],
    ['*30\r\n*30\r\n', /more than 50 elements/],
    ['%26\r\n', /more than 50 elements/],
    ['*1\r\n'.repeat(65), /more than 50 elements|more than 64 levels/],
    [`*40\r\n${`$30\r\n${'x'.repeat(30)}\r\n`.repeat(40)}`, /more than 1000 bytes/],
    [`+${'x'.repeat(1100)}\r\n`, /more than 1000 bytes/],
    [`+${'x'.repeat(70_000)}`, /a line of more than 65536 bytes/],
    ['HTTP/1.1 200 OK\r\n', /unknown type of reply, byte 72/],
    ['|1\r\n', /unknown type of reply, byte 124/],
    ['$3\r\nabcd\r\n', /longer than its announced length/],
    ['$3\r\nabc\n\r', /longer than its announced length/],
    ['+OK\r+', /not terminated by CR LF/],
    [':one\r\n', /malformed value of type ":"/],
    [':x1\r\n', /malformed value of type ":"/],
    [':1x\r\n', /malformed value of type ":"/],
    [`:${'1'.repeat(21)}\r\n`, /malformed value of type ":"/],
    ['#tt\r\n', /malformed value of type "#"/],
    ['#xt\r\n', /malformed value of type "#"/],
    ['$3\r\nabc\rx', /longer than its announced length/],
    ['$0\r\nxx', /longer than its announced length/],
    ['!-1\r\n', /malformed length of type "!"/],
    ['#x\r\n', /malformed value of type "#"/],
    ['_x\r\n', /malformed value of type "_"/],
    ['=3\r\ntxt\r\n', /malformed value of type "="/],
    ['*1\r\n>1\r\n', /a push within a reply/],
  ];
  for (const [reply, problem] of BAD) {
    test(`a malformed reply is refused: ${JSON.stringify(reply).slice(0, 60)}`, () => {
      for (const size of [1, 3, 100_000]) assert.throws(() => check(reply, size), { name: 'ProtocolError', message: problem });
    });
  }

  test('replies deeper than 64 levels are refused before ioredis parses them', () => {
    const guard = new ReplyGuard({ maxBytes: 1 << 20, maxElements: 1 << 20 });
    assert.throws(() => guard.check(Buffer.from('*1\r\n'.repeat(65))), /more than 64 levels/);
  });

  test('each limit is inclusive, counts the framing, and is reported as too large', () => {
    const tooLarge = { name: 'ProtocolError', isTooLarge: true };
    for (const bytes of [991, 992]) {
      const reply = `$${bytes}\r\n${'x'.repeat(bytes)}\r\n`;
      if (reply.length <= 1000) check(reply);
      else assert.throws(() => check(reply), tooLarge);
    }
    check(`+${'x'.repeat(997)}\r\n`);
    assert.throws(() => check(`+${'x'.repeat(998)}\r\n`), tooLarge);
    check(`*50\r\n${':1\r\n'.repeat(50)}`);
    assert.throws(() => check('*51\r\n'), tooLarge);
    const generous = () => new ReplyGuard({ maxBytes: 1 << 20, maxElements: 1000 });
    generous().check(Buffer.from(`${'*1\r\n'.repeat(64)}:1\r\n`));
    assert.throws(() => generous().check(Buffer.from('*1\r\n'.repeat(65))), {
      message: /more than 64 levels/,
      isTooLarge: false,
    });
    generous().check(Buffer.from(`+${'x'.repeat(65_536)}\r\n`));
    assert.throws(() => generous().check(Buffer.from(`+${'x'.repeat(65_537)}`)), tooLarge);
    assert.throws(() => check('$0000000000000995\r\n'), tooLarge);
    assert.throws(() => check('$00000000000000000\r\n'), { message: /malformed length/, isTooLarge: false });
  });

  test('the limits of an app allow a value of 64 MiB and a list of four million elements', () => {
    const guard = () => new ReplyGuard(APP_LIMITS);
    guard().check(Buffer.from(`$${(64 << 20) - 30}\r\n`));
    assert.throws(() => guard().check(Buffer.from(`$${64 << 20}\r\n`)), /more than 67108864 bytes/);
    guard().check(Buffer.from(`*${4 << 20}\r\n`));
    assert.throws(() => guard().check(Buffer.from(`*${(4 << 20) + 1}\r\n`)), /more than 4194304 elements/);
  });

  test('a limit applies to each reply separately', () => {
    const guard = new ReplyGuard(LIMITS);
    for (let i = 0; i < 100; i++) guard.check(Buffer.from(`$900\r\n${'x'.repeat(900)}\r\n`));
  });

  test('any bytes pass or are refused with a ProtocolError', t => {
    const seed = randomInt(2 ** 31);
    t.diagnostic(`seed ${seed}`);
    const random = seededRandom(seed);
    const alphabet = '*$+-:_#,(~%>=!\r\n0123456789-tfabc';
    for (let round = 0; round < 20_000; round++) {
      const bytes = Array.from({ length: 1 + random() * 30 }, () => alphabet[Math.floor(random() * alphabet.length)]).join('');
      try {
        check(bytes, 1 + Math.floor(random() * 5));
      } catch (error) {
        assert.ok(error instanceof ProtocolError, `${JSON.stringify(bytes)} (seed ${seed}): ${error}`);
      }
    }
  });
});
