/**
 * What an editor shows: the language server of the TypeScript compiler, queried as by an editor (Language Server Protocol 3.17).
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { dirname } from 'node:path';
import { pathToFileURL } from 'node:url';

/** What the server `tsc` shows for the text of `file`: the labels that it offers at one character, and the box over another one. */
export async function editorView(
  tsc: string,
  file: string,
  text: string,
  at: { completion: number; hover: number },
): Promise<{ labels: string[]; hover: string }> {
  const server = spawn(process.execPath, [tsc, '--lsp', '--stdio'], { cwd: dirname(file), stdio: ['pipe', 'pipe', 'ignore'] });
  const exited = once(server, 'exit');
  const answers = new Map<number, PromiseWithResolvers<unknown>>();
  const answer = (id: number) => {
    const found = answers.get(id) ?? Promise.withResolvers<unknown>();
    answers.set(id, found);
    return found;
  };
  const send = (message: object) => {
    const json = JSON.stringify({ jsonrpc: '2.0', ...message });
    server.stdin.write(`Content-Length: ${Buffer.byteLength(json)}\r\n\r\n${json}`);
  };
  let unread = Buffer.alloc(0);
  server.stdout.on('data', (bytes: Buffer) => {
    unread = Buffer.concat([unread, bytes]);
    for (;;) {
      const [header, length] = /^Content-Length: (\d+)\r\n(?:.*\r\n)*?\r\n/.exec(unread.toString('latin1')) ?? [];
      if (header === undefined || unread.length < header.length + Number(length)) return;
      const message = JSON.parse(unread.toString('utf8', header.length, header.length + Number(length)));
      unread = unread.subarray(header.length + Number(length));
      // A question of the server, such as for its settings: there are none.
      if (message.method !== undefined) message.id !== undefined && send({ id: message.id, result: null });
      else if (message.error) answer(message.id).reject(new Error(message.error.message));
      else answer(message.id).resolve(message.result);
    }
  });
  const query = (id: number, method: string, params: object) => {
    send({ id, method, params });
    return answer(id).promise;
  };

  const uri = pathToFileURL(file).href;
  const place = (character: number) => {
    const before = text.slice(0, character).split('\n');
    const position = { line: before.length - 1, character: before.at(-1)?.length ?? 0 };
    return { textDocument: { uri }, position };
  };
  try {
    await query(1, 'initialize', { processId: process.pid, rootUri: pathToFileURL(dirname(file)).href, capabilities: {} });
    send({ method: 'initialized', params: {} });
    send({
      method: 'textDocument/didOpen',
      params: { textDocument: { uri, languageId: 'typescript', version: 1, text } },
    });
    const found = (await query(2, 'textDocument/completion', place(at.completion))) as { items: { label: string }[] };
    const labels = found.items.map(({ label }) => label).filter(label => label !== ''); // what is there
    return { labels, hover: JSON.stringify(await query(3, 'textDocument/hover', place(at.hover))) };
  } finally {
    server.kill();
    await exited;
  }
}
