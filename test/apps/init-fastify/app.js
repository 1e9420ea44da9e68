import cookie from '@fastify/cookie';
import session from '@fastify/session';
import Fastify from 'fastify';
import { Redis } from 'ioredis';

const app = Fastify();
const redis = new Redis(process.env.REDIS_URL);
const store = {
  get: (id, done) => redis.get(`sess:${id}`).then(text => done(null, text === null ? null : JSON.parse(text)), done),
  set: (id, value, done) => redis.set(`sess:${id}`, JSON.stringify(value), 'EX', 3600).then(() => done(), done),
  destroy: (id, done) => redis.del(`sess:${id}`).then(() => done(), done),
};
app.register(cookie);
app.register(session, { secret: 'a secret of at least 32 characters', cookie: { secure: false }, store });
app.get('/api/counter', request => {
  request.session.counter = (request.session.counter ?? 0) + 1;
  return { counter: request.session.counter, worker: process.pid, pid: process.pid };
});
app.get('/', () => ({}));
app.addHook('onClose', () => redis.quit());

export default app;
