/**
 * Takes a heap snapshot or a CPU profile of this worker, and writes it to a file, or streams it to the control socket where there is no
 * disk. The primary has checked that there is room, and has cordoned this worker. Loaded when it is first needed.
 */
import { constants } from 'node:fs';
import { open, unlink } from 'node:fs/promises';
import { Session } from 'node:inspector/promises';
import { Readable, type Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { getHeapSnapshot } from 'node:v8';
import type { Diagnosis, DiagnosisTarget } from '../protocol/messages.ts';
import { connectTrusted } from '../protocol/trusted-socket.ts';

// As in server.ts.
const http = process.getBuiltinModule('node:http');

type Upload = Exclude<DiagnosisTarget, { file: string }>;

/** A heap contains secrets: it must not be written to a file, or through a link, that another user has created. */
const NEW_FILE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

/**
 * Takes the diagnosis and writes it to `to`.
 * @throws Error if that file exists, cannot be created or cannot be written; a partial file is removed
 */
export async function diagnose(diagnosis: Diagnosis, to: DiagnosisTarget): Promise<void> {
  if (!('file' in to)) {
    const source = await take(diagnosis);
    const { sink, response } = await openUpload(to); // not earlier: the primary closes connections that send nothing
    await Promise.all([pipeline(source, sink), response]);
    return;
  }
  await using file = await createFile(to.file);
  try {
    await pipeline(await take(diagnosis), file.createWriteStream());
  } catch (error) {
    await unlink(to.file);
    throw error;
  }
}

async function createFile(path: string) {
  try {
    return await open(path, NEW_FILE, 0o600);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    throw new Error(`${path} exists and is not overwritten; remove it or name another file`, { cause: error });
  }
}

async function take(diagnosis: Diagnosis): Promise<Readable> {
  return diagnosis.kind === 'heap-snapshot' ? getHeapSnapshot() : Readable.from([await profileCpu(diagnosis.seconds)]);
}

/** A profile in the format of Chrome's developer tools. */
async function profileCpu(seconds: number): Promise<string> {
  const session = new Session();
  session.connect();
  try {
    await session.post('Profiler.enable');
    await session.post('Profiler.start');
    await sleep(seconds * 1000);
    const { profile } = await session.post('Profiler.stop');
    return JSON.stringify(profile);
  } finally {
    session.disconnect();
  }
}

async function openUpload({ socket, path }: Upload): Promise<{ sink: Writable; response: Promise<void> }> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const connection = await connectTrusted(socket);
  const sink = http.request({ createConnection: () => connection, path, method: 'PUT' }, response => {
    response.resume().once('end', resolve);
  });
  sink.once('error', reject);
  return { sink, response: promise };
}
