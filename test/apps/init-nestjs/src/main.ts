import 'reflect-metadata';
import { Controller, Get, Injectable, Module, Session } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { RedisStore } from 'connect-redis';
import session from 'express-session';
import { createClient } from 'redis';

@Injectable()
class Counter {
  next(before: number | undefined): number {
    return (before ?? 0) + 1;
  }
}

@Controller()
class Pages {
  constructor(private readonly counter: Counter) {}

  @Get('api/counter')
  count(@Session() own: Record<string, number>) {
    own.counter = this.counter.next(own.counter);
    return { counter: own.counter, worker: process.pid, pid: process.pid };
  }

  @Get()
  home() {
    return {};
  }
}

@Module({ controllers: [Pages], providers: [Counter] })
class App {}

async function bootstrap() {
  const client = createClient({ url: process.env.REDIS_URL });
  await client.connect();
  const app = await NestFactory.create(App);
  app.use(session({ secret: 'not a secret', resave: false, saveUninitialized: false, store: new RedisStore({ client }) }));
  await app.listen(process.env.PORT ?? 3000);
}
bootstrap();
