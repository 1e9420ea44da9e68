import cluster from 'node:cluster';
import http from 'node:http';
import { availableParallelism } from 'node:os';
import process from 'node:process';

if (cluster.isPrimary) {
  console.log(`Primary ${process.pid} is running`);
  for (let i = 0; i < availableParallelism(); i++) cluster.fork();
  cluster.on('exit', worker => console.log(`worker ${worker.process.pid} died`));
} else {
  http.createServer((req, res) => res.end('one of its workers')).listen(38474);
  console.log(`Worker ${process.pid} started`);
}
