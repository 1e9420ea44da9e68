import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';

const LOG = join(import.meta.dirname, '..', 'src', 'log.ts');

test('secrets are redacted in a line, in its objects and in their headers', () => {
  const script = `
    import { createLog } from ${JSON.stringify(LOG)};
    const fields = { password: 'p4ss', config: { redisUrl: 'redis://u:p4ss@h', sessionKeys: ['p4ss'] }, req: { headers: { cookie: 'p4ss' } } };
    createLog('info', {})().info({ event: 'x', kept: 1, ...fields });`;
  const line = execFileSync(process.execPath, ['--input-type=module', '--eval', script], { encoding: 'utf8' });
  assert.doesNotMatch(line, /p4ss/);
  const { event, kept, password } = JSON.parse(line);
  assert.deepEqual({ event, kept, password }, { event: 'x', kept: 1, password: '[Redacted]' });
});
