"""A campaign of deliveries under fire: runs that are killed, engines that die, disks that fill; every record is counted.

``truth`` is the market, what it predicts, and the destinations read back; it imports nothing of the product.
"""
