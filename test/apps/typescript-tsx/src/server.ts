import express, { type Request, type Response } from 'express';
import { Parcel, State } from './parcels/parcel';
import { send } from '@parcels/send';

const app = express();
app.get('/parcels/:id', (req: Request, res: Response) => {
  const parcel = new Parcel(String(req.params.id));
  send(parcel, State.Sent);
  res.json(parcel);
});
app.listen(process.env.PORT || 3000);
