import { createServer } from 'node:http';

class Application {
  #server = createServer((req, res) => this.#handle(req, res));
  #handle(req, res) {
    res.setHeader('Content-Type', 'text/plain');
    res.end('a class');
  }
  start(port) {
    return new Promise(resolve => this.#server.listen(port, resolve));
  }
}

await new Application().start(Number(process.env.PORT) || 38476);
