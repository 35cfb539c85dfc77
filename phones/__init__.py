"""Programs that act as a phone: a simulated fleet, and agents for Termux and for USB modems.

They meet the gateway over HTTP only and share no code with it.
"""
