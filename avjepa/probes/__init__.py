"""What a frozen encoder knows, beside what is known without it. Depends on geometry, sensors, bev and jepa."""
