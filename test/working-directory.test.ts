/**
 * The working directory by the path that the operator uses.
 */
import assert from 'node:assert/strict';
import { realpathSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { isThere, releaseAt, workingDirectory } from '../src/config/working-directory.ts';
import { temporaryFolder } from './process/operator.ts';

test('the working directory keeps the path of $PWD, or of APP_MODULE, if that is the same directory', () => {
  const link = join(temporaryFolder(), 'current');
  symlinkSync(process.cwd(), link);
  assert.equal(workingDirectory({ PWD: link }), link);
  assert.equal(workingDirectory({ APP_MODULE: join(link, 'src', 'app.mjs') }), link);
  assert.equal(workingDirectory({ PWD: '/tmp', APP_MODULE: join(link, 'app.mjs') }), link);
  for (const other of [{}, { PWD: '/tmp' }, { PWD: 'src' }, { PWD: join(link, 'nowhere'), APP_MODULE: 'src/app.mjs' }])
    assert.equal(workingDirectory(other), process.cwd());
});

test('an inaccessible module is reported by the worker that loads it', () => {
  const directory = temporaryFolder();
  const loop = join(directory, 'loop'); // like EACCES, ELOOP is an error even where a missing file is not
  symlinkSync(loop, loop);
  const [before, folder] = [process.cwd(), realpathSync(directory)];
  try {
    assert.deepEqual(releaseAt(directory, 'loop/app.mjs'), { directory: folder, module: join(folder, 'loop', 'app.mjs') });
  } finally {
    process.chdir(before);
  }
  assert.equal(isThere({ directory, module: join(loop, 'app.mjs') }), false);
  assert.equal(workingDirectory({ PWD: loop }), process.cwd());
});
