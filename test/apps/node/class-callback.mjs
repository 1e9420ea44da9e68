export default class Application {
  callback() {
    return (req, res) => res.end('callback of a class');
  }
}
