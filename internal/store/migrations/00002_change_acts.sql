-- The sequence number from which on a change is in effect at the gateways: the
-- highest of the items it led to, 0 while it has no version or if it led to none.
ALTER TABLE changes ADD COLUMN acts BIGINT NOT NULL DEFAULT 0;
