import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createLog } from '../src/log/log.ts';

test('log lines have no secrets: not in their fields, in objects or in headers of these', () => {
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

test('the log line of a failed Redis command does not have its arguments', () => {
  const lines: string[] = [];
  const err = Object.assign(new Error('WRONGTYPE'), { command: { name: 'set', args: ['sess:1', '{"user":"p4ss"}'] } });
  createLog('info', {}, line => lines.push(line))().error({ event: 'x', err });
  assert.doesNotMatch(lines.join(''), /p4ss/);
  assert.match(lines.join(''), /WRONGTYPE/);
});
