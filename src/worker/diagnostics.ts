/**
 * Looks into this worker: a heap snapshot, a CPU profile. Written to a file, or streamed to the control socket where there is no disk.
 * The primary has checked that there is room, and has taken this worker out of the rotation.
 */
import { createWriteStream } from 'node:fs';
import { Session } from 'node:inspector/promises';
import { Readable, type Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { getHeapSnapshot } from 'node:v8';
import type { Diagnosis, DiagnosisTarget } from '../messages.ts';

const http = process.getBuiltinModule('node:http');

/** Takes the diagnosis and puts it where `to` says. */
export async function diagnose(diagnosis: Diagnosis, to: DiagnosisTarget): Promise<void> {
  const source = diagnosis.kind === 'heap-snapshot' ? getHeapSnapshot() : Readable.from([await profileCpu(diagnosis.seconds)]);
  if ('file' in to) {
    await pipeline(source, createWriteStream(to.file, { mode: 0o600 }));
    return;
  }
  const { sink, answered } = openUpload(to);
  await Promise.all([pipeline(source, sink), answered]);
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

function openUpload({ socket, path }: { socket: string; path: string }): { sink: Writable; answered: Promise<void> } {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const sink = http.request({ socketPath: socket, path, method: 'PUT' }, response => {
    response.resume().once('end', resolve);
  });
  sink.once('error', reject);
  return { sink, answered: promise };
}
