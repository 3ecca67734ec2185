"""Which questions teach: neither solved nor hopeless, by rising levels, or begun near the end."""
