import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createLog } from '../src/log/log.ts';

test('secrets are redacted in a line, in its objects and in their headers', () => {
  const lines: string[] = [];
  const fields = {
    password: 'p4ss',
    config: { redisUrl: 'redis://u:p4ss@h', sessionKeys: ['p4ss'] },
    req: { headers: { cookie: 'p4ss' } },
  };
  createLog('info', {}, line => lines.push(line))().info({ event: 'x', kept: 1, ...fields });
  const [line = ''] = lines;
  assert.doesNotMatch(line, /p4ss/);
  const { event, kept, password } = JSON.parse(line);
  assert.deepEqual({ event, kept, password }, { event: 'x', kept: 1, password: '[Redacted]' });
});

test('the arguments of a failed Redis command are redacted in its error', () => {
  const lines: string[] = [];
  const err = Object.assign(new Error('WRONGTYPE'), { command: { name: 'set', args: ['sess:1', '{"user":"p4ss"}'] } });
  createLog('info', {}, line => lines.push(line))().error({ event: 'x', err });
  assert.doesNotMatch(lines.join(''), /p4ss/);
  assert.match(lines.join(''), /WRONGTYPE/);
});
