import 'reflect-metadata';
import express, { type Request, type Response } from 'express';
import { Parcel, State } from './parcels/parcel';
import { ParcelController } from './parcels/controller';

const app = express();
const controller = new ParcelController();
app.get('/parcels/:id', (req: Request, res: Response) => {
  const parcel = new Parcel(String(req.params.id), State.Sent);
  res.json({ ...parcel, at: controller.typeOfArgument });
});
app.listen(process.env.PORT || 3000);
