/**
 * The OpenAPI document of the admin port. Paths and answers are written here, against admin/server.ts and admin/admin-port.ts; the schemas
 * are those of the types in protocol/api.ts.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import packageJson from '../../package.json' with { type: 'json' };
import { ROOT } from './blocks.ts';
import { type Schema, schemasOf } from './json-schema.ts';

const schema = (name: string) => ({ $ref: `#/components/schemas/${name}` });
const answer = (name: string) => ({ $ref: `#/components/responses/${name}` });
const json = (description: string, name: string) => ({ description, content: { 'application/json': { schema: schema(name) } } });
const text = (description: string, headers = {}) => ({
  description,
  ...headers,
  content: { 'text/plain': { schema: { type: 'string' } } },
});

const header = (description: string) => ({ headers: { 'WWW-Authenticate': { description, schema: { type: 'string' } } } });

/** Answers that every path but the probes may have. */
const GUARDED = { 401: answer('unauthorized'), 405: answer('methodNotAllowed'), 500: answer('failed') };
/** The probes need no token. */
const OPEN = { security: [] };

interface Operation {
  summary: string;
  description?: string;
  responses: Record<number, object>;
}

const probe = (operationId: string, { summary, description, responses }: Operation) => ({
  get: {
    operationId,
    tags: ['probes'],
    ...OPEN,
    summary,
    description,
    responses: { ...responses, 405: answer('methodNotAllowed') },
  },
});

const view = (operationId: string, { summary, description, responses }: Operation) => ({
  get: { operationId, tags: ['views'], summary, description, responses: { ...responses, ...GUARDED } },
});
/** By any name: a Prometheus reads it by that of a Service. */
const FORBIDDEN = { 403: answer('forbidden') };

const notYet = (why: string) => ({ 503: json(why, 'Probe') });

/** Their order is that of the page. */
export const PATHS = {
  '/livez': probe('livez', {
    summary: 'whether the primary runs',
    description: 'For the liveness probe. 200 while the event loop of the primary runs, also during a drain.',
    responses: { 200: json('The primary runs.', 'Probe') },
  }),
  '/readyz': probe('readyz', {
    summary: 'whether the pod serves',
    description:
      'For the readiness probe and load balancers. First 200 once all wanted workers serve, or some serve while the others have failed for WORKER_START_TIMEOUT_MS; later while at least one serves. A health check of the app with `readiness` can keep it at 503.',
    responses: {
      200: json('The pod serves. A reason says which workers are missing, or which health checks fail.', 'Probe'),
      ...notYet(
        'It starts, drains, no worker serves, or a health check of the app keeps it out of rotation. The reason says which.',
      ),
    },
  }),
  '/startupz': probe('startupz', {
    summary: 'whether the pod has started',
    description: 'For the startup probe. 503 until the pod has started, and while it drains.',
    responses: { 200: json('The pod has started.', 'Probe'), ...notYet('It starts, or drains. The reason says which.') },
  }),
  '/status': view('status', {
    summary: 'the pool and each worker',
    responses: { ...FORBIDDEN, 200: json('The pod now; what workers report is at most a second old.', 'Status') },
  }),
  '/metrics': view('metrics', {
    summary: 'the metrics, for Prometheus',
    responses: {
      200: {
        description: "Prometheus' text format, version 0.0.4, or OpenMetrics 1.0 where the Accept header ranks it no lower.",
        content: {
          'text/plain; version=0.0.4': { schema: { type: 'string' } },
          'application/openmetrics-text; version=1.0.0': { schema: { type: 'string' } },
        },
      },
    },
  }),
  '/events': view('events', {
    summary: 'a stream of what /status shows',
    description:
      'Server-sent events. `history` comes first: the last ten minutes. Then once a second `sample`, `fleet` and a message without a name, which is the whole /status; `lifecycle` comes when something happens. The data of each is JSON: see the schema StreamedEvents.',
    responses: {
      ...FORBIDDEN,
      200: { description: 'A stream without an end.', content: { 'text/event-stream': { schema: { type: 'string' } } } },
      503: text('50 readers are connected (fewer if few file descriptors are allowed).', {
        headers: { 'Retry-After': { description: 'In seconds.', schema: { type: 'integer' } } },
      }),
    },
  }),
  '/': view('dashboard', {
    summary: 'the dashboard',
    responses: {
      ...FORBIDDEN,
      200: { description: 'A page without references to other hosts.', content: { 'text/html': { schema: { type: 'string' } } } },
    },
  }),
};

/** What terminus answers. */
const PROBE: Schema = {
  type: 'object',
  description: 'The answer of a probe.',
  properties: {
    status: { enum: ['ok', 'error'] },
    info: { ...schema('ProbeReason'), description: 'With status ok, if there is a reason.' },
    error: { ...schema('ProbeReason'), description: 'With status error.' },
  },
  required: ['status'],
};
const PROBE_REASON: Schema = { type: 'object', properties: { reason: { type: 'string' } }, required: ['reason'] };

export function openapi(): object {
  const types = schemasOf('src/protocol/api.ts', ['StreamedEvents']);
  return {
    openapi: '3.1.1',
    info: {
      title: 'koa-bosun admin port',
      version: packageJson.version,
      license: { name: packageJson.license, identifier: packageJson.license },
      description:
        'Read-only: nothing on this port changes state. Every path takes GET and HEAD, with any query; other methods get 405, other paths 404. Later versions may add fields.',
    },
    servers: [{ url: 'http://127.0.0.1:9090', description: 'ADMIN_HOST and ADMIN_PORT' }],
    security: [{ bearer: [] }, { basic: [] }, {}],
    tags: [
      { name: 'probes', description: 'Open to everyone.' },
      { name: 'views', description: 'They require ADMIN_TOKEN where it is set, and show text of the app only then.' },
    ],
    paths: PATHS,
    components: {
      securitySchemes: {
        bearer: { type: 'http', scheme: 'bearer', description: 'ADMIN_TOKEN' },
        basic: { type: 'http', scheme: 'basic', description: 'Any user name, ADMIN_TOKEN as the password.' },
      },
      responses: {
        unauthorized: text('ADMIN_TOKEN is set, and the request has another token or none.', header('Bearer and Basic')),
        forbidden: text('The Host header has a name that is not in ADMIN_ALLOWED_HOSTS, and ADMIN_TOKEN is not set.'),
        methodNotAllowed: text('Another method than GET and HEAD.', {
          headers: { Allow: { description: 'GET, HEAD', schema: { const: 'GET, HEAD' } } },
        }),
        failed: text('The answer failed; the log has the error (admin.failed).'),
      },
      schemas: { Probe: PROBE, ProbeReason: PROBE_REASON, ...types },
    },
  };
}

/** What the OpenAPI specification's own schema says of a document (test/fixtures/openapi; of the OpenAPI Initiative). */
export function problemsOf(document: object): string[] {
  const ajv = new Ajv2020({ allErrors: true, strict: false, validateFormats: false });
  const file = join(ROOT, 'test', 'fixtures', 'openapi', 'schema-3.1.json');
  const validate = ajv.compile(JSON.parse(readFileSync(file, 'utf8')));
  validate(document);
  return (validate.errors ?? []).map(({ instancePath, message }) => `${instancePath} ${message}`);
}
